/**
 * DM_OP through a restricted privcmd: random operations, sizes, buffers and domids. Half of them are well formed, so
 * that operations are reached and not only the audit.
 */
import { IOCTL_PRIVCMD_DM_OP, IOCTL_PRIVCMD_RESTRICT } from '../../dist/abi/linux/privcmd.js';
import { type Fuzzer, iterate } from './fuzzer.js';
import { Random } from './random.js';
import { ATTACKED, BASE, errnoOf, FuzzProcess, finish, USABLE, VICTIM, World } from './world.js';

const ERRNOS = new Set(
  'E2BIG EBUSY EEXIST EFAULT EINVAL EMFILE ENODATA ENOENT ENOMEM ENOSPC ENOSYS EOPNOTSUPP EOVERFLOW EPERM ERANGE ESRCH'.split(
    ' ',
  ),
);
const WORLD_LIFETIME = 400;
const CHECK_EVERY = 50;
const LIST = BASE + 0x100;
const FIRST = BASE + 0x400;
const SECOND = BASE + 0x1000;

interface Attack {
  readonly random: Random;
  readonly process: FuzzProcess;
}

function putArguments({ random, process }: Attack): void {
  const view = new DataView(process.memory.bytes.buffer);
  const dom = random.oneIn(4) ? random.pick([VICTIM, VICTIM, 0, 3, 0x7ff0, 0x7ff4, 0xffff]) : ATTACKED;
  const num = random.oneIn(10) ? random.below(20) : 1 + random.below(2);
  view.setUint16(0, dom, true);
  view.setUint16(2, num, true);
  view.setBigUint64(8, random.oneIn(20) ? BigInt(BASE) + random.number() : BigInt(LIST), true);
  for (let i = 0; i < num; i++) {
    const address = random.oneIn(20) ? random.number() : BigInt(i === 0 ? FIRST : SECOND);
    const size = random.oneIn(20) ? random.number() : BigInt(random.pick([4, 8, 12, 32, 40, 64, 64, 64, 4096]));
    view.setBigUint64(LIST - BASE + i * 16, address, true);
    view.setBigUint64(LIST - BASE + i * 16 + 8, size, true);
  }
}

/** An operation's header and a payload of numbers that could mean something, at every alignment the structs have. */
function putOperation({ random, process }: Attack): void {
  const { bytes } = process.memory;
  const view = new DataView(bytes.buffer, FIRST - BASE, 64);
  bytes.fill(0, FIRST - BASE, FIRST - BASE + 64);
  view.setUint32(0, random.oneIn(20) ? Number(random.number() & 0xffffffffn) : 1 + random.below(20), true);
  for (let at = random.oneIn(8) ? 4 : 8; at < 40; ) {
    const size = random.pick([1, 2, 4, 4, 8, 8]);
    const value = random.oneIn(3) ? 0n : random.number();
    if (at % size === 0) {
      if (size === 8) view.setBigUint64(at, value, true);
      else if (size === 4) view.setUint32(at, Number(value & 0xffffffffn), true);
      else if (size === 2) view.setUint16(at, Number(value & 0xffffn), true);
      else view.setUint8(at, Number(value & 0xffn));
    }
    at += size;
  }
  if (random.oneIn(2)) bytes.set(random.bytes(64), SECOND - BASE);
  else bytes.fill(0, SECOND - BASE, USABLE);
}

/**
 * @param sabotage what a test of the fuzzer itself breaks in the file before it is attacked
 * @param onResult told of every operation's number and result
 */
export function fuzzDmOp(
  seed: number,
  iterations: number,
  sabotage: (file: object) => void = () => {},
  onResult: (op: number, ret: number) => void = () => {},
): void {
  const random = new Random(seed);
  let world!: World;
  let file!: ReturnType<World['kernel']['open']>;
  const process = new FuzzProcess();
  iterate('dm_op', seed, iterations, (i) => {
    if (i % WORLD_LIFETIME === 0) {
      world = new World();
      file = world.kernel.open('privcmd', () => {});
      process.memory.bytes[0] = ATTACKED;
      process.memory.bytes[1] = 0;
      file.ioctl(IOCTL_PRIVCMD_RESTRICT, BASE, process);
      sabotage(file);
    }
    putArguments({ random, process });
    putOperation({ random, process });
    const op = new DataView(process.memory.bytes.buffer).getUint32(FIRST - BASE, true);
    onResult(
      op,
      errnoOf(() => finish(file.ioctl(IOCTL_PRIVCMD_DM_OP, BASE, process), random), ERRNOS),
    );
    if (i % CHECK_EVERY === CHECK_EVERY - 1 || i === iterations - 1) world.assertUntouched();
  });
}

export const dmOpFuzzer: Fuzzer = { name: 'dm_op', smoke: 6000, run: (seed, iterations) => fuzzDmOp(seed, iterations) };
