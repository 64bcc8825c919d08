/**
 * Plays a script against a guest's I/O. Accesses may answer at once or with a promise; only promises are waited for, so
 * that a synchronous guest is played without a turn of the event loop in between.
 *
 * Time, waiting and the guest are passed in.
 */
import type { AccessSize, Check, PciFunction, Script, Statement } from './script.js';

type Awaitable<T> = T | Promise<T>;

/** Interrupt lines as they are now. */
export interface InterruptState {
  /** Asserted ISA lines, ascending. */
  readonly isa: readonly number[];
  /** Asserted INTx pins of devices on bus 0: pin 0 is INTA. */
  readonly intx: readonly { readonly device: number; readonly pin: number }[];
}

/** The guest's side: what a vCPU would do. */
export interface GuestIo {
  /** Makes one access as the guest. @returns the value read; anything for a write */
  access(
    space: 'port' | 'memory',
    direction: 'read' | 'write',
    address: bigint,
    size: AccessSize,
    value: bigint,
  ): Awaitable<bigint>;
  /** Guest memory by guest-physical address; throws where there is none. */
  readMemory(address: bigint, length: number): Awaitable<Uint8Array>;
  writeMemory(address: bigint, bytes: Uint8Array): Awaitable<void>;
  interrupts(): Awaitable<InterruptState>;
}

/** How a statement went. `statement` says what was asked. */
export type Result = { readonly statement: Exclude<Statement, { kind: 'repeat' }> } & (
  | { readonly kind: 'done' }
  | { readonly kind: 'value'; readonly value: bigint; readonly isOk?: boolean }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly isOk?: boolean }
  | { readonly kind: 'interrupts'; readonly interrupts: InterruptState }
);

export interface Summary {
  /** Accesses made, those of configuration cycles and strings counted one by one. */
  nrAccesses: number;
  nrChecks: number;
  nrFailures: number;
  /** Stopped before the end: by the signal, or at a failure where that was asked for. */
  stopped: boolean;
}

export interface RunOptions {
  readonly onResult: (result: Result) => void;
  readonly sleep: (ms: number) => Promise<void>;
  /** Milliseconds on any clock that only moves forward. */
  readonly now: () => number;
  /** Looked at between statements. */
  readonly signal?: { readonly aborted: boolean };
  readonly stopAtFailure?: boolean;
}

/** Steps after which a synchronous guest's player lets other work run. */
const TURN_EVERY = 4096;
/** Between two looks at a value that is waited for. */
const POLL_MS = 1;

const CONFIG_ADDRESS = 0xcf8n;
const CONFIG_DATA = 0xcfcn;
const CONFIG_ENABLE = 0x8000_0000n;

/** Plays the script to its end. @throws what the guest's side throws */
export async function runScript(script: Script, guest: GuestIo, options: RunOptions): Promise<Summary> {
  const player = new Player(guest, options);
  const frames: Frame[] = [{ body: script, next: 0, left: 1 }];
  let untilTurn = TURN_EVERY;
  for (let frame = frames.at(-1); frame; frame = frames.at(-1)) {
    if (options.signal?.aborted || (options.stopAtFailure && player.summary.nrFailures > 0)) {
      player.summary.stopped = true;
      break;
    }
    const statement = advance(frames, frame);
    const pending = statement && player.play(statement);
    if (pending) await pending;
    else if (--untilTurn <= 0) await options.sleep(0);
    else continue;
    untilTurn = TURN_EVERY;
  }
  return player.summary;
}

interface Frame {
  readonly body: Script;
  next: number;
  /** Rounds, this one included. */
  left: number;
}

/** The next statement to play; undefined where this step only entered or left a `repeat`. */
function advance(frames: Frame[], frame: Frame): Played | undefined {
  const statement = frame.body[frame.next];
  if (!statement) {
    frame.next = 0;
    if (--frame.left <= 0 || frame.body.length === 0) frames.pop();
    return undefined;
  }
  frame.next++;
  if (statement.kind !== 'repeat') return statement;
  if (statement.count > 0) frames.push({ body: statement.body, next: 0, left: statement.count });
  return undefined;
}

type Played = Exclude<Statement, { kind: 'repeat' }>;
type Valued = Extract<Statement, { kind: 'read' | 'cfgread' | 'irq' }>;

function then<T, R>(value: Awaitable<T>, use: (value: T) => Awaitable<R>): Awaitable<R> {
  return value instanceof Promise ? value.then(use) : use(value);
}

function holds(check: Check, value: bigint): boolean {
  const relevant = check.mask === undefined ? value : value & check.mask;
  return (relevant === check.value) === check.isEqual;
}

class Player {
  readonly summary: Summary = { nrAccesses: 0, nrChecks: 0, nrFailures: 0, stopped: false };

  constructor(
    private readonly guest: GuestIo,
    private readonly options: RunOptions,
  ) {}

  /** @returns undefined when it is done, a promise where it has to be waited for */
  play(statement: Played): Awaitable<void> {
    switch (statement.kind) {
      case 'read':
      case 'cfgread':
      case 'irq':
        return then(this.value(statement), (value) => this.judge(statement, value));
      case 'write': {
        const { space, address, size, value } = statement;
        return this.finish(statement, this.access(space, 'write', address, size, value));
      }
      case 'cfgwrite':
        return this.finish(statement, this.config(statement.pci, statement.register, 'write', statement));
      case 'outs':
        return this.finish(statement, this.outString(statement.port, statement.bytes, 0));
      case 'memread':
        return then(this.guest.readMemory(statement.address, statement.length), (bytes) =>
          this.bytes(statement, bytes),
        );
      case 'memwrite':
        return this.finish(statement, this.guest.writeMemory(statement.address, statement.bytes));
      case 'irqs':
        return then(this.guest.interrupts(), (interrupts) => {
          this.options.onResult({ statement, kind: 'interrupts', interrupts });
        });
      case 'sleep':
        return this.finish(statement, this.options.sleep(statement.ms));
      case 'print':
        return this.finish(statement, undefined);
    }
  }

  private finish(statement: Played, work: Awaitable<unknown>): Awaitable<void> {
    return then(work, () => this.options.onResult({ statement, kind: 'done' }));
  }

  private access(
    space: 'port' | 'memory',
    direction: 'read' | 'write',
    address: bigint,
    size: AccessSize,
    value: bigint,
  ): Awaitable<bigint> {
    this.summary.nrAccesses++;
    return this.guest.access(space, direction, address, size, value);
  }

  private value(statement: Valued): Awaitable<bigint> {
    switch (statement.kind) {
      case 'read':
        return this.access(statement.space, 'read', statement.address, statement.size, 0n);
      case 'cfgread':
        return this.config(statement.pci, statement.register, 'read', statement);
      case 'irq':
        return then(this.guest.interrupts(), (state) => (state.isa.includes(statement.irq) ? 1n : 0n));
    }
  }

  /** As a guest does it: the address port, then the data port. */
  private config(
    { bus, device, fn }: PciFunction,
    register: number,
    direction: 'read' | 'write',
    { size, value = 0n }: { readonly size: 1 | 2 | 4; readonly value?: bigint },
  ): Awaitable<bigint> {
    const target = BigInt((bus << 16) | (device << 11) | (fn << 8) | (register & 0xfc));
    return then(this.access('port', 'write', CONFIG_ADDRESS, 4, CONFIG_ENABLE | target), () =>
      this.access('port', direction, CONFIG_DATA + BigInt(register & 3), size, value),
    );
  }

  private outString(port: bigint, bytes: Uint8Array, from: number): Awaitable<void> {
    for (let i = from; i < bytes.length; i++) {
      const written = this.access('port', 'write', port, 1, BigInt(bytes[i] as number));
      if (written instanceof Promise) return written.then(() => this.outString(port, bytes, i + 1));
    }
    return undefined;
  }

  private judge(statement: Valued, value: bigint): Awaitable<void> {
    const { check } = statement;
    if (!check) {
      this.options.onResult({ statement, kind: 'value', value });
      return undefined;
    }
    if (check.withinMs !== undefined && !holds(check, value)) return this.poll(statement, check, check.withinMs);
    this.reportValue(statement, value, holds(check, value));
    return undefined;
  }

  private async poll(statement: Valued, check: Check, withinMs: number): Promise<void> {
    const end = this.options.now() + withinMs;
    for (;;) {
      await this.options.sleep(POLL_MS);
      const value = await this.value(statement);
      const isOk = holds(check, value);
      if (!isOk && this.options.now() < end && !this.options.signal?.aborted) continue;
      this.reportValue(statement, value, isOk);
      return;
    }
  }

  private reportValue(statement: Valued, value: bigint, isOk: boolean): void {
    this.count(isOk);
    this.options.onResult({ statement, kind: 'value', value, isOk });
  }

  private bytes(statement: Extract<Statement, { kind: 'memread' }>, bytes: Uint8Array): undefined {
    const { expected } = statement;
    if (!expected) {
      this.options.onResult({ statement, kind: 'bytes', bytes });
      return undefined;
    }
    const isOk = bytes.length === expected.length && expected.every((byte, i) => byte === bytes[i]);
    this.count(isOk);
    this.options.onResult({ statement, kind: 'bytes', bytes, isOk });
    return undefined;
  }

  private count(isOk: boolean): void {
    this.summary.nrChecks++;
    if (!isOk) this.summary.nrFailures++;
  }
}
