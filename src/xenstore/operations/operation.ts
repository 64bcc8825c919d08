/**
 * What an operation declares. The table of them is the dispatcher's and the support matrix at once.
 */
import type { Outcome, Request } from '../request.js';

export interface Operation {
  readonly type: number;
  /** Xen's name without XS_. */
  readonly name: string;
  readonly support: 'supported' | 'partial' | 'extension';
  readonly note?: string;
  /** For privileged clients only. */
  readonly privileged?: true;
  /** The request's tx_id has no meaning. */
  readonly ignoresTransaction?: true;
  /** Whether others go first: the request stays unread until then. */
  mustWait?(request: Request): boolean;
  run(request: Request): Outcome;
}

/** For operations that change the node at their first argument: they wait while somebody has a turn on it. */
export function changeMustWait(request: Request): boolean {
  const { turns } = request.server;
  if (!turns.held || request.transactionId !== 0) return false;
  const nul = request.stringEnd(request.start);
  if (nul < 0 || !request.parsePath(request.start, nul)) return false;
  const { path, connection } = request;
  const parent = path.depth > 1 ? (path.prefixHash[path.depth - 2] as number) : path.rootHash;
  return !turns.mayChange(connection, [path.hash, parent]);
}
