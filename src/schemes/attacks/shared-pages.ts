/**
 * Classes of published advisories about memory that two sides have at once: the pages between a device model and the
 * hypervisor, and a guest's own memory. As in advisories.ts, no matter of how a call names its memory.
 */
import { HVM_IOREQSRV_BUFIOREQ_ATOMIC, XEN_DMOP_get_ioreq_server_info } from '../../abi/xen/dm-op.js';
import { ioreq, STATE_IOREQ_INPROCESS, STATE_IORESP_READY } from '../../abi/xen/ioreq.js';
import { writeGuest } from '../../hypervisor/ioreq/guest-copy.js';
import type { IoreqPage } from '../../hypervisor/ioreq/ioreq-page.js';
import { type Attack, words } from './attack.js';
import {
  createServer,
  enableServer,
  hvmOf,
  READ_PORT,
  race,
  SERVER,
  serverOf,
  setState,
  startServer,
  watchPage,
} from './device-model.js';

/** No state at all: the field has room for 16. */
const NO_STATE = 9;
/** Beyond the ring's 511 slots: taken as it is, it leads into the page behind. */
const FAR_POINTER = 600;

export const SHARED_PAGE_ATTACKS: readonly Attack[] = [
  {
    id: 'swap-state',
    name: 'The state of a request becomes one that doesn’t exist, after it was looked at',
    group: 'advisories',
    breaks: ['no-crash'],
    origin: 'XSA-166: the state of an ioreq is read twice',
    races: true,
    run(lab) {
      const page = startServer(lab);
      const { dispatcher } = hvmOf(lab).ioreq;
      let isDone = false;
      dispatcher.start(0, READ_PORT, () => {
        isDone = true;
      });
      setState(page, STATE_IOREQ_INPROCESS);
      dispatcher.poll(0);
      setState(page, STATE_IORESP_READY);
      watchPage(lab, serverOf(lab, SERVER).ioreqPage as IoreqPage);
      lab.note('answers; the hypervisor looks at the slot');
      race(
        lab,
        () => setState(page, NO_STATE),
        () => dispatcher.poll(0),
      );
      if (!isDone) lab.world.breach('state-machine', 'the vCPU still waits for an answer that has been there');
    },
  },
  {
    id: 'swap-ring-pointer',
    name: 'The write pointer of the buffered ring is moved out of the ring, after it was looked at',
    group: 'advisories',
    breaks: ['state-machine'],
    origin: 'XSA-197: a shared ring is fetched from twice',
    races: true,
    run(lab) {
      const next = startServer(lab, SERVER, HVM_IOREQSRV_BUFIOREQ_ATOMIC);
      const { dispatcher } = hvmOf(lab).ioreq;
      const ring = serverOf(lab, SERVER).bufioreqPage as IoreqPage;
      const pointers = ring.words.subarray(0, 2);
      // The page behind the ring has the slots of two vCPUs at its beginning, and nothing else.
      const rest = new Uint8Array(next.buffer, next.byteOffset + 2 * ioreq.size, next.byteLength - 2 * ioreq.size);
      const before = rest.slice();
      watchPage(lab, ring);
      lab.note('the guest writes to a port; the hypervisor appends it to the ring');
      race(
        lab,
        () => pointers.fill(FAR_POINTER),
        () => dispatcher.start(0, { ...READ_PORT, isWrite: true, data: 0x41n, buffered: true }, () => {}),
      );
      const at = rest.findIndex((byte, i) => byte !== before[i]);
      if (at >= 0)
        lab.world.breach('state-machine', `byte ${at + 2 * ioreq.size} of the page behind the ring is written`);
    },
  },
  {
    id: 'guest-rewrites-request',
    name: 'The guest rewrites a request in its own memory, after its device model has checked it',
    group: 'advisories',
    breaks: ['state-machine'],
    origin: 'XSA-478: guest memory is checked, and then used where the guest can still change it',
    races: true,
    run(lab) {
      const { mine } = lab.world;
      createServer(lab);
      lab.call({ domid: lab.mine, op: XEN_DMOP_get_ioreq_server_info, payload: words(SERVER) });
      enableServer(lab);
      const { gfn, view } = serverOf(lab, SERVER).ioreqPage as IoreqPage;
      if (gfn === undefined) throw new Error('the server has no guest frame: the attack is wrong');
      hvmOf(lab).ioreq.dispatcher.start(0, READ_PORT, () => {});
      lab.note('the device model checks the port of a request in a guest frame, then uses it');
      const rewrite = () => void writeGuest(mine, gfn << 12n, new Uint8Array([0xff, 0xff]));
      race(lab, rewrite, () => {
        const checked = ioreq.fields.addr.get(view, 0);
        lab.world.scheduler.point('device model has checked the request');
        const used = ioreq.fields.addr.get(view, 0);
        if (used !== checked) lab.world.breach('state-machine', `port ${checked} was checked, port ${used} is used`);
      });
    },
  },
];
