/**
 * Makes an I/O server: the one place that knows the order of calls. A failure half-way leaves nothing behind.
 *
 *     nr_vcpus ▶ create ▶ map the slots' and the ring's pages ▶ info (the ring's event channel)
 */
import { PAGE_SIZE } from '../abi/ids.js';
import {
  HVM_IOREQSRV_BUFIOREQ_ATOMIC,
  HVM_IOREQSRV_BUFIOREQ_LEGACY,
  HVM_IOREQSRV_BUFIOREQ_OFF,
} from '../abi/xen/dm-op.js';
import { XENMEM_resource_ioreq_server } from '../abi/xen/memory.js';
import { BufferedRing } from './buffered-ring.js';
import type { DmOps } from './dm-ops.js';
import type { GuestPhysicalMemory } from './guest-memory.js';
import { IoServer } from './io-server.js';
import { IOREQ_SIZE, IoreqPage } from './ioreq-page.js';
import type { EvtchnFile, MappedMemory, PrivcmdFile } from './xen-devices.js';

/** `off`: every access waits; `legacy`: the first ring protocol; `atomic`: the one to use. */
export type BufferedRequests = 'off' | 'legacy' | 'atomic';

const HANDLE_BUFIOREQ: Record<BufferedRequests, number> = {
  off: HVM_IOREQSRV_BUFIOREQ_OFF,
  legacy: HVM_IOREQSRV_BUFIOREQ_LEGACY,
  atomic: HVM_IOREQSRV_BUFIOREQ_ATOMIC,
};

/** Frames of the resource. @spec xen:public/memory.h */
const FRAME_BUFIOREQ = 0;
const FRAME_IOREQ_FIRST = 1;

/** @param onClose the server is gone @throws XenDeviceError */
export function createIoServer(
  ops: DmOps,
  privcmd: PrivcmdFile,
  evtchn: EvtchnFile,
  memory: GuestPhysicalMemory,
  bufferedRequests: BufferedRequests,
  onClose: () => void,
): IoServer {
  const nrVcpus = ops.nrVcpus();
  const id = ops.createIoreqServer(HANDLE_BUFIOREQ[bufferedRequests]);
  const mappings: MappedMemory[] = [];
  const map = (frame: number, nrFrames: number): Uint8Array => {
    const mapping = privcmd.mmapResource(ops.domid, XENMEM_resource_ioreq_server, id, frame, nrFrames);
    mappings.push(mapping);
    return mapping.bytes;
  };
  try {
    const nrFrames = Math.ceil((nrVcpus * IOREQ_SIZE) / PAGE_SIZE);
    const page = new IoreqPage(map(FRAME_IOREQ_FIRST, nrFrames), nrVcpus);
    const ring = bufferedRequests === 'off' ? undefined : new BufferedRing(map(FRAME_BUFIOREQ, 1));
    const { bufioreqPort } = ops.getIoreqServerInfo(id);
    return new IoServer({ id, ops, evtchn, memory, mappings, page, ring, bufioreqPort, onClose });
  } catch (error) {
    for (const mapping of mappings) mapping.unmap();
    ops.destroyIoreqServer(id);
    throw error;
  }
}
