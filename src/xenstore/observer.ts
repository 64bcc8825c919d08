/**
 * Who is told of every lasting change: a journal. None costs the store a look at a null a change.
 *
 * Calls come in the order of the changes, each after its change but for removals, and the next call may come in the same
 * request. Objects are as they are now: nothing may be kept of them.
 */
import type { Connection } from './connection.js';
import type { Domain } from './domains.js';
import type { Node } from './node.js';
import type { SpecialWatch, Watch } from './watches.js';

export interface Observer {
  /** Created, or with another value or other permissions. What is above it has been told of before. */
  nodeChanged(node: Node): void;
  /** About to go, with all that is below it. */
  nodeRemoved(node: Node): void;
  /** Introduced, reconnected, shut down, resumed; has another target, other limits or features. */
  domainChanged(domain: Domain): void;
  domainEnded(domain: Domain): void;
  /** Of a ring: what was received, or what waits to be sent. */
  ringMoved(connection: Connection): void;
  quotasChanged(): void;
  specialChanged(name: SpecialWatch): void;
  watchAdded(watch: Watch): void;
  watchRemoved(watch: Watch): void;
}
