/**
 * Classes of published advisories about what DM ops act upon: ioreq servers, their pages, dirty memory. They are no matter
 * of how a call names its memory, so every proposal fares alike; the hypervisor is the project's own under all of them.
 */
import {
  XEN_DMOP_create_ioreq_server,
  XEN_DMOP_destroy_ioreq_server,
  XEN_DMOP_map_io_range_to_ioreq_server,
  XEN_DMOP_modified_memory,
} from '../../abi/xen/dm-op.js';
import { ioreq, STATE_IOREQ_INPROCESS, STATE_IOREQ_READY } from '../../abi/xen/ioreq.js';
import { type Attack, words } from './attack.js';
import { hvmOf, SERVER, startServer } from './device-model.js';

export const ADVISORY_ATTACKS: readonly Attack[] = [
  {
    id: 'inverted-range',
    name: 'An I/O range that ends before it starts',
    group: 'advisories',
    breaks: ['state-machine'],
    origin: 'XSA-238',
    run(lab) {
      lab.call({ domid: lab.mine, op: XEN_DMOP_create_ioreq_server, payload: words(0) });
      const payload = words(0, 0, 0x2000, 0, 0x1000, 0);
      lab.call({ domid: lab.mine, op: XEN_DMOP_map_io_range_to_ioreq_server, payload });
      for (const { start, end } of lab.world.mine.hvm?.ioreq.get(0)?.ranges[0] ?? []) {
        if (end < start) lab.world.breach('state-machine', `a server claims ${start} to ${end}`);
      }
    },
  },
  {
    id: 'state-backwards',
    name: 'The state of a request goes backwards, so that the vCPU waits for ever',
    group: 'advisories',
    breaks: ['state-machine'],
    origin: 'XSA-262',
    run(lab) {
      const page = startServer(lab);
      const { dispatcher } = hvmOf(lab).ioreq;
      let isDone = false;
      dispatcher.start(0, { space: 'port', addr: 1n, size: 1, isWrite: false, data: 0n }, () => {
        isDone = true;
      });
      for (const state of [STATE_IOREQ_INPROCESS, STATE_IOREQ_READY, STATE_IOREQ_INPROCESS, STATE_IOREQ_READY]) {
        const flags = ioreq.fields.flags.get(page, 0);
        ioreq.fields.flags.set(page, 0, { ...flags, state });
        lab.note(`sets the slot's state to ${state}`);
        dispatcher.poll(0);
      }
      if (!isDone) lab.world.breach('state-machine', 'the vCPU still waits, and nothing will end it');
    },
  },
  {
    id: 'page-not-zeroed',
    name: 'A new server’s page holds what was in that memory before',
    group: 'advisories',
    breaks: ['hypervisor-secrecy'],
    origin: 'XSA-239, 464: uninitialised bytes reach an emulator',
    run(lab) {
      const page = startServer(lab);
      for (let at = ioreq.size * 2; at < page.byteLength; at += 8) {
        if (page.getBigUint64(at, true) !== lab.world.stackMark) continue;
        lab.world.breach('hypervisor-secrecy', `byte ${at} of the page holds the hypervisor's memory`);
        return;
      }
    },
  },
  {
    id: 'page-outlives-server',
    name: 'A page is kept mapped after its server has gone, and the next server gets it',
    group: 'advisories',
    breaks: ['state-machine'],
    origin: 'XSA-276: an ioreq page is freed while it is mapped',
    run(lab) {
      const stale = startServer(lab);
      lab.call({ domid: lab.mine, op: XEN_DMOP_destroy_ioreq_server, payload: words(SERVER) });
      const next = startServer(lab);
      stale.setUint32(4000, 0x41414141, true);
      lab.note('writes the page of the server that is gone');
      if (next.getUint32(4000, true) !== 0) lab.world.breach('state-machine', 'the next server sees it');
    },
  },
  {
    id: 'log-dirty-race',
    name: 'Logging of dirty memory is switched off while an operation marks pages',
    group: 'advisories',
    breaks: ['state-machine'],
    origin: 'XSA-397',
    races: true,
    run(lab) {
      const { logDirty } = hvmOf(lab);
      logDirty.enable(false);
      // Extents are done from the last: each is long enough to be preempted.
      for (let i = 0; i < 8; i++) lab.process.write(lab.block + BigInt(i * 16), words(250, 0, 0).subarray(0, 16));
      let isOff = false;
      lab.secondThread(() => {
        logDirty.disable();
        isOff = true;
      });
      const blocks = [{ address: lab.block, size: 128n }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_modified_memory, payload: words(8), blocks });
      if (isOff && logDirty.isEnabled) lab.world.breach('state-machine', 'pages are marked in a bitmap that is gone');
    },
  },
];
