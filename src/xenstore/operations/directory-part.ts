/**
 * DIRECTORY_PART path|offset| → generation|names|: a list too long for one reply, in parts. The last part ends with an
 * empty name.
 * @spec xen:docs/misc/xenstore.txt DIRECTORY_PART
 */
import { XENSTORE_PAYLOAD_MAX, XS_DIRECTORY_PART, XS_PERM_READ } from '../../abi/xen/xs-wire.js';
import { latin1Bytes } from '../arena.js';
import { atoi, type Outcome, type Request } from '../request.js';
import { CHILDREN, EXISTENCE } from '../view.js';
import type { Operation } from './operation.js';

export const directoryPart: Operation = {
  type: XS_DIRECTORY_PART,
  name: 'DIRECTORY_PART',
  support: 'supported',
  run(request: Request): Outcome {
    const offsets = request.strings(2);
    const [start, second, after] = offsets;
    if (request.countStrings() !== 2 || start === undefined || second === undefined || after === undefined)
      return 'EINVAL';
    const entry = request.locate(start, second - 1, XS_PERM_READ, EXISTENCE | CHILDREN);
    if (entry === null) return request.error;
    const offset = atoi(request.text(second, after - 1)) >>> 0;
    const generation = latin1Bytes(`${request.view.generation(entry)}\0`);
    const list = new Uint8Array(entry.childBytes);
    request.view.copyChildren(entry, list, 0);
    return request.reply(part(generation, list, offset));
  },
};

/** As many whole names from `offset` on as fit beside the closing nul. */
function part(generation: Uint8Array, list: Uint8Array, offset: number): Uint8Array {
  const room = XENSTORE_PAYLOAD_MAX - generation.length - 1;
  let end = Math.min(offset, list.length);
  while (end < list.length) {
    const next = list.indexOf(0, end) + 1;
    if (next - offset > room) break;
    end = next;
  }
  const names = list.subarray(Math.min(offset, list.length), end);
  const reply = new Uint8Array(generation.length + names.length + (end === list.length ? 1 : 0));
  reply.set(generation);
  reply.set(names, generation.length);
  return reply;
}
