/**
 * Classes of published advisories about numbers that index, lists that change, and records that grow. As in
 * advisories.ts, no matter of how a call names its memory.
 */
import {
  XEN_DMOP_destroy_ioreq_server,
  XEN_DMOP_map_io_range_to_ioreq_server,
  XEN_DMOP_track_dirty_vram,
} from '../../abi/xen/dm-op.js';
import { STATE_IOREQ_NONE, STATE_IOREQ_READY, STATE_IORESP_READY } from '../../abi/xen/ioreq.js';
import type { IoreqPage } from '../../hypervisor/ioreq/ioreq-page.js';
import { type Attack, type Lab, track, words } from './attack.js';
import { hvmOf, PORTS, READ_PORT, SERVER, serverOf, setState, startServer } from './device-model.js';

const TWO_32 = 0x1_0000_0000n;
/** No state at all: for it the domain is crashed, and the reason noted. */
const NO_STATE = 9;
const NR_CRASHES = 512;
/** A reason names the numbers that were wrong. More characters than this are a record of what somebody else chose. */
const MAX_REASON = 256;

/** The device model binds its server's channel, and acts at once when it is notified. */
function onNotified(lab: Lab, id: number, act: () => void): void {
  const { evtchn } = lab.world.hypervisor.dom0;
  const port = evtchn.bindInterdomain(lab.world.mine, serverOf(lab, id).vcpus[0]?.port as number);
  evtchn.clearPending(port);
  evtchn.onUpcall = (pending) => {
    if (pending === port) act();
  };
  evtchn.unmask(port);
}

export const LIST_AND_BOUND_ATTACKS: readonly Attack[] = [
  {
    id: 'port-beyond-table',
    name: 'Port numbers of 64 bits, where there are 2^16 ports',
    group: 'advisories',
    breaks: ['no-crash', 'state-machine'],
    origin: 'XSA-199: a 64-bit port number indexes a table of 2^16',
    run(lab) {
      startServer(lab);
      const { dispatcher } = hvmOf(lab).ioreq;
      const isAsked = (addr: bigint) => dispatcher.select({ ...READ_PORT, addr }) !== undefined;
      if (isAsked(TWO_32 + 1n)) lab.world.breach('state-machine', 'port 2^32 + 1 is taken for port 1');
      const payload = words(SERVER, PORTS, 0x2000, 1, 0x2007, 1);
      lab.call({ domid: lab.mine, op: XEN_DMOP_map_io_range_to_ioreq_server, payload });
      if (isAsked(0x2000n)) lab.world.breach('state-machine', 'a claim of port 2^32 + 0x2000 gives port 0x2000');
    },
  },
  {
    id: 'endless-reasons',
    name: 'The protocol is broken over and over: how much is noted of it?',
    group: 'advisories',
    breaks: ['bounded'],
    origin: 'XSA-180: logging without bound, driven by a guest',
    run(lab) {
      const page = startServer(lab);
      const { dispatcher } = hvmOf(lab).ioreq;
      lab.note(`answers ${NR_CRASHES} requests with a state that doesn't exist`);
      for (let i = 0; i < NR_CRASHES; i++) {
        dispatcher.start(0, READ_PORT, () => {});
        setState(page, NO_STATE);
        dispatcher.poll(0);
        setState(page, STATE_IOREQ_NONE);
      }
      const kept = dispatcher.crashReason?.length ?? 0;
      if (kept > MAX_REASON) lab.world.breach('bounded', `${kept} characters are kept of ${NR_CRASHES} failures`);
      const blocks = Array.from({ length: 16 }, () => ({ address: 2n ** 64n - 1n, size: 2n ** 64n - 1n }));
      const { reason } = lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
      if (reason.length > MAX_REASON) lab.world.breach('bounded', `a refusal's reason has ${reason.length} characters`);
    },
  },
  {
    id: 'list-changes-in-walk',
    name: 'A server goes while the hypervisor walks the list of servers to ask each',
    group: 'advisories',
    breaks: ['state-machine'],
    origin: 'XSA-491: a list of ports is changed while it is walked',
    run(lab) {
      const pages = [0, 1, 2].map((id) => startServer(lab, id));
      const { dispatcher } = hvmOf(lab).ioreq;
      const staying = [0, 1].map((id) => ({ id, page: serverOf(lab, id).ioreqPage as IoreqPage }));
      // The highest id is asked first.
      onNotified(lab, 2, () => {
        lab.call({ domid: lab.mine, op: XEN_DMOP_destroy_ioreq_server, payload: words(2) });
      });
      let isDone = false;
      dispatcher.invalidateMapcache(0, () => {
        isDone = true;
      });
      if (serverExists(lab, 2)) throw new Error('server 2 was not notified: the attack is wrong');
      for (const { id, page } of staying) {
        const isAsked = page.state(0) === STATE_IOREQ_READY;
        if (!isAsked) lab.world.breach('state-machine', `server ${id} was there all along and is passed over`);
        else setState(pages[id] as DataView, STATE_IORESP_READY);
      }
      dispatcher.poll(0);
      if (!isDone) lab.world.breach('state-machine', 'the vCPU waits for a server that has gone');
    },
  },
];

function serverExists(lab: Lab, id: number): boolean {
  return hvmOf(lab).ioreq.get(id) !== undefined;
}
