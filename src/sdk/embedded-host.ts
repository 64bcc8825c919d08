/** The device files of the embedded host, for the SDK. `connectHost` is what stands in for opening /dev/xen. */

import { ERRNO } from '../abi/errno.js';
import { PAGE_SIZE } from '../abi/ids.js';
import { encode } from '../abi/layout.js';
import {
  IOCTL_EVTCHN_BIND_INTERDOMAIN,
  IOCTL_EVTCHN_BIND_UNBOUND_PORT,
  IOCTL_EVTCHN_BIND_VIRQ,
  IOCTL_EVTCHN_NOTIFY,
  IOCTL_EVTCHN_RESTRICT_DOMID,
  IOCTL_EVTCHN_UNBIND,
} from '../abi/linux/evtchn.js';
import {
  IOCTL_PRIVCMD_DM_OP,
  IOCTL_PRIVCMD_HYPERCALL,
  IOCTL_PRIVCMD_MMAP_RESOURCE,
  IOCTL_PRIVCMD_MMAPBATCH_V2,
  IOCTL_PRIVCMD_RESTRICT,
  privcmd_dm_op,
  privcmd_dm_op_buf,
  privcmd_hypercall,
  privcmd_mmap_resource,
  privcmd_mmapbatch_v2,
} from '../abi/linux/privcmd.js';
import { XENMEM, xen_memory_reservation } from '../abi/xen/memory.js';
import { HYPERVISOR } from '../abi/xen/xen.js';
import {
  allocateNative,
  checked,
  libc,
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  mapShared,
  nativeView,
  POLLIN,
  PROT_READ,
  PROT_WRITE,
  pollAsync,
} from '../host/libc.js';
import { POSTERN_AREA_FRESH, POSTERN_IOCTL, POSTERN_MMAP } from '../host/protocol.js';
import { type Answer, type Block, blockAddress, HostClient, type Run } from './host-client.js';
import {
  type EvtchnFile,
  type HypercallFile,
  type MappedBatch,
  type MappedMemory,
  type PrivcmdFile,
  XenDeviceError,
  type XenDevices,
} from './xen-devices.js';

/** Connects this process to a host. @param socketPath what `postern host --socket` was given */
export function connectHost(socketPath: string): XenDevices {
  const client = new HostClient(socketPath);
  return {
    openPrivcmd: () => new HostPrivcmd(client, client.open('privcmd')),
    openEvtchn: () => new HostEvtchn(client, client.open('evtchn')),
    openHypercall: () => new HostHypercall(client, client.open('privcmd'), client.open('hypercall')),
  };
}

/** Addresses of hypercall memory are the process's real ones; this is where the host is told to find the next. */
const ARENA_PAGES = 16;

/** Maps the runs of an answer side by side; pages without a run stay inaccessible. */
function mapRuns(runs: readonly Run[], files: readonly number[], nrPages: number, writable: boolean): MappedMemory {
  const size = nrPages * PAGE_SIZE;
  const reserved = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const base = checked('mmap', libc.mmap(0, size, 0, reserved, -1, 0));
  const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  for (const run of runs) {
    const at = base + run.page * PAGE_SIZE;
    const file = files[run.file] as number;
    const flags = MAP_SHARED | MAP_FIXED;
    checked('mmap', libc.mmap(at, run.nrPages * PAGE_SIZE, protection, flags, file, run.frame * PAGE_SIZE));
  }
  for (const fd of files) libc.close(fd);
  let mapped = true;
  return {
    bytes: nativeView(base, size),
    unmap: () => {
      if (mapped) libc.munmap(base, size);
      mapped = false;
    },
  };
}

const MAP_FIXED = 0x10;

class HostPrivcmd implements PrivcmdFile {
  constructor(
    private readonly client: HostClient,
    private readonly fd: number,
  ) {}

  private ioctl(name: string, cmd: number, blocks: readonly Block[], flags = 0): Answer {
    return this.client.transact(this.fd, { kind: POSTERN_IOCTL, name, cmd, arg: blockAddress(0), blocks, flags });
  }

  dmOp(domid: number, bufs: readonly Uint8Array[]): void {
    const op = encode(privcmd_dm_op, { dom: domid, num: bufs.length, ubufs: blockAddress(1) });
    const list = new Uint8Array(bufs.length * privcmd_dm_op_buf.size);
    const view = new DataView(list.buffer);
    for (const [i, buf] of bufs.entries()) {
      privcmd_dm_op_buf.write(view, i * privcmd_dm_op_buf.size, { uptr: blockAddress(2 + i), size: buf.length });
    }
    const buffers = bufs.map((bytes) => ({ bytes, writable: true }));
    this.ioctl('dm_op', IOCTL_PRIVCMD_DM_OP, [{ bytes: op }, { bytes: list }, ...buffers]);
  }

  mmapResource(domid: number, type: number, id: number, frame: number, nrFrames: number): MappedMemory {
    const addr = blockAddress(100);
    const bytes = encode(privcmd_mmap_resource, { dom: domid, type, id, idx: frame, num: nrFrames, addr });
    const answer = this.ioctl('mmap_resource', IOCTL_PRIVCMD_MMAP_RESOURCE, [{ bytes }], POSTERN_AREA_FRESH);
    return mapRuns(answer.runs, answer.files, nrFrames, true);
  }

  resourceSize(domid: number, type: number, id: number): number {
    const bytes = encode(privcmd_mmap_resource, { dom: domid, type, id, idx: 0, num: 0, addr: 0 });
    this.ioctl('resource size', IOCTL_PRIVCMD_MMAP_RESOURCE, [{ bytes, writable: true }]);
    return privcmd_mmap_resource.fields.num.get(new DataView(bytes.buffer), 0) * PAGE_SIZE;
  }

  mmapBatch(domid: number, gfns: readonly bigint[], options: { writable: boolean }): MappedBatch {
    const frames = new Uint8Array(BigUint64Array.from(gfns).buffer);
    const errors = new Int32Array(gfns.length);
    const call = { num: gfns.length, dom: domid, addr: blockAddress(100), arr: blockAddress(1), err: blockAddress(2) };
    const blocks = [
      { bytes: encode(privcmd_mmapbatch_v2, call) },
      { bytes: frames },
      { bytes: new Uint8Array(errors.buffer), writable: true, data: false },
    ];
    const answer = this.ioctl('mmap_batch', IOCTL_PRIVCMD_MMAPBATCH_V2, blocks, POSTERN_AREA_FRESH);
    return { memory: mapRuns(answer.runs, answer.files, gfns.length, options.writable), errors };
  }

  restrict(domid: number): void {
    this.ioctl('restrict', IOCTL_PRIVCMD_RESTRICT, [{ bytes: new Uint8Array(Uint16Array.of(domid).buffer) }]);
  }

  close(): void {
    libc.close(this.fd);
  }
}

class HostEvtchn implements EvtchnFile {
  private readonly word = allocateNative(4096);
  private readonly doorbells = new Map<number, number>();

  constructor(
    private readonly client: HostClient,
    readonly fd: number,
  ) {}

  private ioctl(name: string, cmd: number, ...words: number[]): Answer {
    const blocks = [{ bytes: new Uint8Array(Uint32Array.from(words).buffer) }];
    return this.client.transact(this.fd, { kind: POSTERN_IOCTL, name, cmd, arg: blockAddress(0), blocks });
  }

  private bind(answer: Answer): number {
    const [bell] = answer.files;
    if (bell !== undefined) this.doorbells.set(answer.ret, bell);
    return answer.ret;
  }

  bindInterdomain(domid: number, remotePort: number): number {
    return this.bind(this.ioctl('bind_interdomain', IOCTL_EVTCHN_BIND_INTERDOMAIN, domid, remotePort));
  }

  bindUnboundPort(domid: number): number {
    return this.bind(this.ioctl('bind_unbound_port', IOCTL_EVTCHN_BIND_UNBOUND_PORT, domid));
  }

  bindVirq(virq: number): number {
    return this.bind(this.ioctl('bind_virq', IOCTL_EVTCHN_BIND_VIRQ, virq));
  }

  unbind(port: number): void {
    this.ioctl('unbind', IOCTL_EVTCHN_UNBIND, port);
    const bell = this.doorbells.get(port);
    if (bell !== undefined) libc.close(bell);
    this.doorbells.delete(port);
  }

  notify(port: number): void {
    const bell = this.doorbells.get(port);
    if (bell === undefined) {
      this.ioctl('notify', IOCTL_EVTCHN_NOTIFY, port);
      return;
    }
    this.word.view.setBigUint64(8, 1n, true);
    libc.write(bell, this.word.address + 8, 8);
  }

  unmask(port: number): void {
    this.word.view.setUint32(0, port, true);
    libc.send(this.fd, this.word.address, 4, MSG_NOSIGNAL);
  }

  restrict(domid: number): void {
    const blocks = [{ bytes: new Uint8Array(Uint16Array.of(domid).buffer) }];
    const call = { kind: POSTERN_IOCTL, name: 'restrict', cmd: IOCTL_EVTCHN_RESTRICT_DOMID, arg: blockAddress(0) };
    this.client.transact(this.fd, { ...call, blocks });
  }

  read(): number | undefined {
    const length = libc.recv(this.fd, this.word.address, 4, MSG_DONTWAIT);
    if (length === 0) throw new XenDeviceError(ERRNO.EIO, 'read evtchn: the host is gone');
    return length === 4 ? this.word.view.getUint32(0, true) : undefined;
  }

  private pollArgument(at: number): number {
    this.word.view.setInt32(at, this.fd, true);
    this.word.view.setInt16(at + 4, POLLIN, true);
    this.word.view.setInt16(at + 6, 0, true);
    return this.word.address + at;
  }

  wait(timeoutMs: number): boolean {
    return libc.poll(this.pollArgument(16), 1, timeoutMs) > 0;
  }

  async waitAsync(signal?: AbortSignal): Promise<void> {
    // A second at a time, so that an abort is noticed even though a thread's poll cannot be interrupted.
    while (!signal?.aborted) {
      if ((await pollAsync(this.pollArgument(32), 1, 1000)) !== 0) return;
    }
  }

  close(): void {
    for (const bell of this.doorbells.values()) libc.close(bell);
    libc.close(this.fd);
  }
}

class HostHypercall implements HypercallFile {
  private readonly arena: ReturnType<typeof mapShared>;

  constructor(
    private readonly client: HostClient,
    private readonly privcmd: number,
    private readonly buffers: number,
  ) {
    const place = checked('mmap', libc.mmap(0, ARENA_PAGES * PAGE_SIZE, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    libc.munmap(place, ARENA_PAGES * PAGE_SIZE); // an address nobody else of this process has: the host only keys by it
    const answer = client.transact(buffers, { kind: POSTERN_MMAP, name: 'mmap', arg: place, cmd: ARENA_PAGES });
    this.arena = mapShared(answer.files[0] as number, ARENA_PAGES * PAGE_SIZE);
    this.address = place;
    for (const fd of answer.files) libc.close(fd);
  }

  private readonly address: number;

  populatePhysmap(domid: number, firstGfn: bigint, nrFrames: number): number {
    const perCall = ((ARENA_PAGES - 1) * PAGE_SIZE) / 8;
    let done = 0;
    while (done < nrFrames) {
      const count = Math.min(perCall, nrFrames - done);
      const populated = this.populate(domid, firstGfn + BigInt(done), count);
      done += populated;
      if (populated < count) break;
    }
    return done;
  }

  /** The struct lies in the arena's first page, the frame list behind it. */
  private populate(domid: number, firstGfn: bigint, count: number): number {
    const list = BigUint64Array.from({ length: count }, (_, i) => firstGfn + BigInt(i));
    this.arena.bytes.set(new Uint8Array(list.buffer), PAGE_SIZE);
    xen_memory_reservation.write(this.arena.view, 0, {
      extent_start: BigInt(this.address + PAGE_SIZE),
      nr_extents: BigInt(count),
      extent_order: 0,
      mem_flags: 0,
      domid,
    });
    const arg = [BigInt(XENMEM.populate_physmap), BigInt(this.address), 0n, 0n, 0n];
    const call = encode(privcmd_hypercall, { op: BigInt(HYPERVISOR.memory_op), arg });
    const answer = this.client.transact(this.privcmd, {
      kind: POSTERN_IOCTL,
      name: 'populate_physmap',
      cmd: IOCTL_PRIVCMD_HYPERCALL,
      arg: blockAddress(0),
      blocks: [{ bytes: call }],
    });
    return answer.ret;
  }

  close(): void {
    this.arena.unmap();
    libc.close(this.privcmd);
    libc.close(this.buffers);
  }
}
