/** What attacks on ioreq servers share: a device model's server, and its pages with the second thread between accesses. */
import {
  XEN_DMOP_create_ioreq_server,
  XEN_DMOP_map_io_range_to_ioreq_server,
  XEN_DMOP_set_ioreq_server_state,
} from '../../abi/xen/dm-op.js';
import { ioreq } from '../../abi/xen/ioreq.js';
import type { HvmState } from '../../hypervisor/domain.js';
import type { IoRequest } from '../../hypervisor/ioreq/io-request.js';
import type { IoreqPage } from '../../hypervisor/ioreq/ioreq-page.js';
import type { IoreqServer } from '../../hypervisor/ioreq/ioreq-server.js';
import { type Lab, words } from './attack.js';

export const PORTS = 0;
export const SERVER = 0;

/** A guest's access to a port that the server of `startServer` claims. */
export const READ_PORT: IoRequest = { space: 'port', addr: 1n, size: 1, isWrite: false, data: 0n };

export function hvmOf(lab: Lab): HvmState {
  const { hvm } = lab.world.mine;
  if (!hvm) throw new Error('the domain is not HVM');
  return hvm;
}

export function serverOf(lab: Lab, id: number): IoreqServer {
  const server = hvmOf(lab).ioreq.get(id);
  if (!server) throw new Error(`there is no server ${id}`);
  return server;
}

/** A server on ports 0 to 0xff that isn't enabled yet. */
export function createServer(lab: Lab, id = SERVER, bufioreqHandling = 0): void {
  const { mine: domid } = lab;
  lab.call({ domid, op: XEN_DMOP_create_ioreq_server, payload: words(bufioreqHandling) });
  lab.call({ domid, op: XEN_DMOP_map_io_range_to_ioreq_server, payload: words(id, PORTS, 0, 0, 0xff, 0) });
}

export function enableServer(lab: Lab, id = SERVER): void {
  lab.call({ domid: lab.mine, op: XEN_DMOP_set_ioreq_server_state, payload: words(id | (1 << 16)) });
}

/** A server of the attacker's on ports 0 to 0xff, with its page mapped. @returns the page as the attacker has it */
export function startServer(lab: Lab, id = SERVER, bufioreqHandling = 0): DataView {
  const { world } = lab;
  createServer(lab, id, bufioreqHandling);
  const [mfn] = hvmOf(lab).ioreq.resourceFrames(world.hypervisor.dom0, id, 1n, 1);
  enableServer(lab, id);
  const page = world.hypervisor.machine.frame(mfn as number);
  return new DataView(page.buffer, page.byteOffset, page.length);
}

/** The device model writes the state of a vCPU's slot. */
export function setState(page: DataView, state: number, vcpuId = 0): void {
  const base = vcpuId * ioreq.size;
  ioreq.fields.flags.set(page, base, { ...ioreq.fields.flags.get(page, base), state });
}

/** From here on, every access of the hypervisor's to a shared page is a point where the second thread may run. */
export function watchPage(lab: Lab, page: IoreqPage): void {
  const { words: shared, view } = page;
  const { scheduler } = lab.world;
  const seen = <T>(value: T) => ({
    get: () => {
      scheduler.point('hypervisor accesses the shared page');
      return value;
    },
  });
  Object.defineProperties(page, { words: seen(shared), view: seen(view) });
}

/**
 * What the hypervisor does by itself, and not in a call, with the second thread at work. Only its points are tried: those
 * of the calls before it have nothing to race with.
 */
export function race(lab: Lab, step: () => void, action: () => void): void {
  const { scheduler } = lab.world;
  lab.secondThread(step);
  scheduler.points = 0;
  scheduler.during(action);
}
