/**
 * What a daemon serves beside its socket: a host's dom0 kernel and the rings of its domains.
 *
 * It is made before the server and told of it once that is complete; the server asks it about domains from then on.
 */
import type { XsErrorName } from '../../abi/xs-wire.js';
import type { XenstoreService } from '../../host/xenstore-service.js';
import type { Connection } from '../../xenstore/connection.js';

export interface Attachment {
  /** Begins to serve. A restored store has its domains introduced by `ring` before. */
  start(service: XenstoreService): void;
  domainExists(domid: number): boolean;
  /** INTRODUCE. Null on success. */
  introduce(domid: number, gfn: number, port: number): XsErrorName | null;
  released(domid: number): void;
  /** Restart: attaches a domain's ring (0: the kernel's) and connects it; null where it can't be had any more. */
  ring(service: XenstoreService, domid: number, gfn: number, port: number): Connection | null;
  close(): void;
}
