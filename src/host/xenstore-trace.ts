/** XenStore messages as a trace shows them, of the host and of a daemon of its own alike. */
import { latin1 } from '../xenstore/arena.js';
import { typeName } from '../xenstore/operations/index.js';
import type { TracedMessage } from '../xenstore/server.js';

/** One JSON object's worth, without its time. */
export function messageRecord(message: TracedMessage): object {
  const { connection, direction, type, requestId, transactionId, payload } = message;
  return {
    device: 'xenstore',
    connection: connection.id,
    domid: connection.domain.domid,
    direction,
    call: typeName(type),
    requestId,
    transactionId,
    payload: latin1(payload, 0, payload.length),
  };
}
