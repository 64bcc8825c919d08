/**
 * Broken forms whose fault is in the hypervisor and not in how memory is named: a check or a care is taken out of the
 * project's own code, in one world, to show that the attack on it can succeed.
 */
import { XEN_DMOP_IO_RANGE_PORT } from '../../abi/xen/dm-op.js';
import { buf_ioreq, buffered_iopage, IOREQ_BUFFER_SLOT_NUM, STATE_IORESP_READY } from '../../abi/xen/ioreq.js';
import type { HvmState } from '../../hypervisor/domain.js';
import type { IoreqServer } from '../../hypervisor/ioreq/ioreq-server.js';
import type { World } from '../model/world.js';
import type { Proposal } from '../proposal.js';
import { arrayMinuted } from './array-minuted.js';

function hvmOf({ mine }: World): HvmState {
  if (!mine.hvm) throw new Error('the domain is not HVM');
  return mine.hvm;
}

/** Puts another method, even a private one, into one object. */
function replace(object: object, method: string, by: (...args: never[]) => unknown): void {
  Object.assign(object, { [method]: by });
}

function weakened(id: string, name: string, weaken: (world: World) => void): Proposal {
  return { ...arrayMinuted, id: `array-minuted/${id}`, name, brokenFormOf: 'array-minuted', weaken };
}

export const WEAKENED: readonly Proposal[] = [
  weakened('inverted-ranges', 'I/O ranges are claimed without a look at their ends', (world) => {
    const servers = hvmOf(world).ioreq;
    servers.mapRange = (_emulator, id, type, start, end) => void servers.get(id)?.ranges[type]?.add(start, end);
  }),
  weakened('waits-for-ever', 'A request whose state makes no sense is waited for', (world) => {
    Object.assign(hvmOf(world).ioreq.dispatcher, { crash: () => {} });
  }),
  weakened('dirty-memory', 'Memory is not zeroed before it is shared', ({ hypervisor: { machine }, stackMark }) => {
    const allocate = machine.allocate.bind(machine);
    machine.allocate = (nrFrames) => {
      const place = allocate(nrFrames);
      const { bytes } = place.extent;
      new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8).fill(stackMark, 16);
      return place;
    };
  }),
  weakened('recycles-pages', 'Memory that is still mapped is given to the next', ({ hypervisor: { machine } }) => {
    const allocate = machine.allocate.bind(machine);
    const before = new Map<number, ReturnType<typeof allocate>>();
    machine.release = () => {};
    machine.allocate = (nrFrames) => {
      const place = before.get(nrFrames) ?? allocate(nrFrames);
      before.set(nrFrames, place);
      return place;
    };
  }),
  weakened('logs-by-itself', 'Marking a page brings the log back', (world) => {
    const { logDirty } = hvmOf(world);
    const markDirty = logDirty.markDirty.bind(logDirty);
    logDirty.markDirty = (gfn) => {
      if (!logDirty.isEnabled) logDirty.enable(false);
      markDirty(gfn);
    };
  }),
  weakened('reads-state-twice', 'The state of a request is read to be checked, and read to be acted upon', (world) => {
    const { dispatcher } = hvmOf(world).ioreq;
    const takeAnswer = Reflect.get(dispatcher, 'takeAnswer') as (server: IoreqServer, vcpuId: number) => unknown;
    const nrStates = STATE_IORESP_READY + 1;
    replace(dispatcher, 'takeAnswer', (server: IoreqServer, vcpuId: number, ...rest: unknown[]) => {
      const page = server.ioreqPage;
      if (page && page.state(vcpuId) < nrStates) {
        const entry = page.state(vcpuId);
        if (entry >= nrStates) throw new Error(`entry ${entry} of a table for ${nrStates} states is jumped to`);
      }
      return Reflect.apply(takeAnswer, dispatcher, [server, vcpuId, ...rest]);
    });
  }),
  weakened('reads-ring-twice', 'The ring’s pointer is read to be checked, and read to be used', (world) => {
    replace(
      hvmOf(world).ioreq.dispatcher,
      'sendBuffered',
      (server: IoreqServer, request: { readonly data: bigint }) => {
        const page = server.bufioreqPage;
        const pointer = () => page!.words[buffered_iopage.fields.write_pointer.offset / 4]! >>> 0;
        if (!page || pointer() >= IOREQ_BUFFER_SLOT_NUM) return false;
        const at = buffered_iopage.fields.buf_ioreq.offset + pointer() * buf_ioreq.size;
        // Memory goes on behind the page.
        new DataView(page.bytes.buffer, page.bytes.byteOffset).setUint32(at, Number(request.data), true);
        return true;
      },
    );
  }),
  weakened('shows-pages', 'Guest frames that a server uses stay in the guest’s reach', ({ mine }) => {
    mine.p2m.remove = (gfn) => mine.p2m.mfn(gfn);
  }),
  weakened('port-table', 'Ports are looked up in a table with 2^16 entries', (world) => {
    const servers = hvmOf(world).ioreq;
    const mapRange = servers.mapRange.bind(servers);
    servers.mapRange = (emulator, id, type, start, end) => {
      const nrEntries = 1n << 16n;
      if (type === XEN_DMOP_IO_RANGE_PORT && end >= nrEntries)
        throw new Error(`entry ${end} of a table for ${nrEntries} ports is written`);
      mapRange(emulator, id, type, start, end);
    };
  }),
  weakened('notes-everything', 'Every failure of a device model’s is noted', (world) => {
    const { dispatcher } = hvmOf(world).ioreq;
    const crash = Reflect.get(dispatcher, 'crash') as (vcpuId: number, reason: string) => void;
    const notes: string[] = [];
    replace(dispatcher, 'crash', (vcpuId: number, reason: string) => {
      notes.push(reason);
      Reflect.apply(crash, dispatcher, [vcpuId, reason]);
      dispatcher.crashReason = notes.join('; ');
    });
  }),
  weakened('walks-live-list', 'The list of servers is walked while it can change', (world) => {
    const servers = hvmOf(world).ioreq;
    const now = servers[Symbol.iterator].bind(servers);
    servers[Symbol.iterator] = function* () {
      for (let i = 0; i < servers.size; i++) yield [...now()][i] as IoreqServer;
    };
  }),
];
