/**
 * Event channel files restricted to domain 1, several at once: random calls and writes, beside a file of somebody else
 * whose channel must go on working and ring only when it is rung.
 */
import * as E from '../../dist/abi/linux/evtchn.js';
import type { DeviceFile } from '../../dist/dom0/device-file.js';
import { type Fuzzer, FuzzFailure, iterate } from './fuzzer.js';
import { Random } from './random.js';
import { ATTACKED, BASE, errnoOf, FuzzProcess, finish, VICTIM, World } from './world.js';

const ERRNOS = new Set('EACCES EBUSY EFAULT EINVAL EEXIST ENOENT ENOMEM ENOSPC ENOSYS ENOTCONN EPERM ESRCH'.split(' '));
const CALLS = [
  E.IOCTL_EVTCHN_BIND_VIRQ,
  E.IOCTL_EVTCHN_BIND_INTERDOMAIN,
  E.IOCTL_EVTCHN_BIND_UNBOUND_PORT,
  E.IOCTL_EVTCHN_UNBIND,
  E.IOCTL_EVTCHN_NOTIFY,
  E.IOCTL_EVTCHN_RESET,
  E.IOCTL_EVTCHN_RESTRICT_DOMID,
];
const WORLD_LIFETIME = 1000;

class Bystander {
  private readonly file: DeviceFile;
  private readonly port: number;
  private delivered = 0;

  constructor(
    private readonly world: World,
    private readonly process: FuzzProcess,
  ) {
    this.file = world.kernel.open('evtchn', () => void this.delivered++);
    this.put(VICTIM);
    this.port = this.file.ioctl(E.IOCTL_EVTCHN_BIND_UNBOUND_PORT, BASE, process) as number;
  }

  /** @throws FuzzFailure where its port is gone, or events came that nobody sent */
  check(): void {
    this.put(this.port);
    this.file.ioctl(E.IOCTL_EVTCHN_NOTIFY, BASE, this.process); // nobody has bound it: allowed, and nothing comes
    if (this.delivered > 0) throw new FuzzFailure('an event on a port that nobody rang');
    if (!this.world.hypervisor.domains.find(VICTIM)) throw new FuzzFailure('domain 2 is gone');
  }

  private put(value: number): void {
    new DataView(this.process.memory.bytes.buffer).setUint32(0, value, true);
  }
}

function fuzzEvtchn(seed: number, iterations: number): void {
  const random = new Random(seed);
  const process = new FuzzProcess();
  const view = new DataView(process.memory.bytes.buffer);
  let world!: World;
  let bystander!: Bystander;
  let files: DeviceFile[] = [];
  const open = (): DeviceFile => {
    const file = world.kernel.open('evtchn', () => {});
    view.setUint32(0, ATTACKED, true);
    file.ioctl(E.IOCTL_EVTCHN_RESTRICT_DOMID, BASE, process);
    return file;
  };
  iterate('evtchn', seed, iterations, (i) => {
    if (i % WORLD_LIFETIME === 0) {
      world = new World();
      const { evtchn } = world.hypervisor.domains.get(ATTACKED);
      for (let port = 0; port < 20; port++) evtchn.allocUnbound(0); // something to bind
      bystander = new Bystander(world, process);
      files = [open(), open(), open()];
    }
    const at = random.below(files.length);
    const file = files[at] as DeviceFile;
    if (random.oneIn(50)) {
      file.release();
      files[at] = open();
    } else if (random.oneIn(4)) {
      errnoOf(() => file.write(random.oneIn(2) ? ports(random) : random.bytes(random.below(64))), ERRNOS);
    } else {
      view.setUint32(0, random.oneIn(2) ? ATTACKED : Number(random.number() & 0xffffffffn), true);
      view.setUint32(4, Number(random.number() & 0xffffffffn), true);
      const address = random.oneIn(20) ? Number(random.number()) : BASE;
      const cmd = random.oneIn(30) ? random.bits() : random.pick(CALLS);
      if (random.oneIn(2)) view.setUint32(0, random.below(40), true);
      errnoOf(() => finish(file.ioctl(cmd, address, process), random), ERRNOS);
    }
    if (i % 100 === 99 || i === iterations - 1) bystander.check();
  });
}

function ports(random: Random): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: random.below(16) }, () => random.below(40)).buffer);
}

export const evtchnFuzzer: Fuzzer = { name: 'evtchn', smoke: 20_000, run: fuzzEvtchn };
