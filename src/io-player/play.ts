/**
 * The player: statements one after the other against a guest that answers through callbacks, at once or later. No
 * promises, so that a thread that runs no microtasks (the host's) can play too, and an answer leads to the next access
 * without a detour. Time, waiting and the guest are passed in.
 *
 *     run ──statement──▶ guest ──answer──▶ result ──▶ run …
 */
import type { AccessSize, Check, PciFunction, Script, Statement } from './script.js';

/** Interrupt lines as they are now. */
export interface InterruptState {
  /** Asserted ISA lines, ascending. */
  readonly isa: readonly number[];
  /** Asserted INTx pins of devices on bus 0: pin 0 is INTA. */
  readonly intx: readonly { readonly device: number; readonly pin: number }[];
}

/** The guest's side: what a vCPU would do. Each call answers once, before or after it returns, or throws. */
export interface CallbackGuest {
  /** Makes one access as the guest; `answer` gets what was read, anything for a write. */
  access(
    space: 'port' | 'memory',
    direction: 'read' | 'write',
    address: bigint,
    size: AccessSize,
    value: bigint,
    answer: (value: bigint) => void,
  ): void;
  /** Guest memory by guest-physical address; throws where there is none. */
  readMemory(address: bigint, length: number, answer: (bytes: Uint8Array) => void): void;
  writeMemory(address: bigint, bytes: Uint8Array, answer: () => void): void;
  interrupts(answer: (state: InterruptState) => void): void;
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

export interface PlayOptions {
  readonly onResult: (result: Result) => void;
  /** Calls back after `ms` milliseconds, never before it returns; 0 lets other work run. */
  readonly sleep: (ms: number, then: () => void) => void;
  /** Milliseconds on any clock that only moves forward. */
  readonly now: () => number;
  /** Looked at between statements. */
  readonly signal?: { readonly aborted: boolean };
  readonly stopAtFailure?: boolean;
}

/** Called once at the end: with the summary, or with what the guest's side threw. */
export type Ended = (outcome: { readonly summary: Summary } | { readonly error: unknown }) => void;

/** A script in play. */
export interface Playing {
  /** Ends it now, with an error; an answer that is still to come is ignored. */
  fail(error: unknown): void;
}

/** Plays a script. */
export function playScript(script: Script, guest: CallbackGuest, options: PlayOptions, ended: Ended): Playing {
  const player = new Player(script, guest, options, ended);
  player.run();
  return player;
}

/** Steps after which a guest that answers at once lets other work run. */
const TURN_EVERY = 4096;
/** Between two looks at a value that is waited for. */
const POLL_MS = 1;

const CONFIG_ADDRESS = 0xcf8n;
const CONFIG_DATA = 0xcfcn;
const CONFIG_ENABLE = 0x8000_0000n;

interface Frame {
  readonly body: Script;
  next: number;
  /** Rounds, this one included. */
  left: number;
}

type Played = Exclude<Statement, { kind: 'repeat' }>;
type Valued = Extract<Statement, { kind: 'read' | 'cfgread' | 'irq' }>;
type OutString = Extract<Statement, { kind: 'outs' }>;

function holds(check: Check, value: bigint): boolean {
  const relevant = check.mask === undefined ? value : value & check.mask;
  return (relevant === check.value) === check.isEqual;
}

class Player implements Playing {
  private readonly summary: Summary = { nrAccesses: 0, nrChecks: 0, nrFailures: 0, stopped: false };
  private readonly frames: Frame[];
  /** A string that is being written: its statement and how far it is. */
  private string: { readonly statement: OutString; next: number } | undefined;
  private running = false;
  private waiting = false;
  private isOver = false;
  private untilTurn = TURN_EVERY;

  constructor(
    script: Script,
    private readonly guest: CallbackGuest,
    private readonly options: PlayOptions,
    private readonly ended: Ended,
  ) {
    this.frames = [{ body: script, next: 0, left: 1 }];
  }

  fail(error: unknown): void {
    if (this.isOver) return;
    this.isOver = true;
    this.ended({ error });
  }

  /** Goes on until an answer has to be waited for. Answers that come at once only clear `waiting`. */
  run(): void {
    if (this.running) return;
    this.running = true;
    try {
      while (!this.waiting && !this.isOver) this.step();
    } catch (error) {
      this.fail(error);
    } finally {
      this.running = false;
    }
  }

  private readonly resume = (): void => {
    this.waiting = false;
    if (this.running) return;
    this.untilTurn = TURN_EVERY;
    this.run();
  };

  private step(): void {
    const { options, summary } = this;
    const isStopped = options.signal?.aborted || (options.stopAtFailure && summary.nrFailures > 0);
    const frame = this.frames.at(-1);
    if (isStopped || !frame) {
      summary.stopped = isStopped === true;
      this.isOver = true;
      this.ended({ summary });
    } else if (--this.untilTurn <= 0) {
      this.untilTurn = TURN_EVERY;
      this.waiting = true;
      options.sleep(0, this.resume);
    } else if (this.string) {
      this.waiting = true;
      this.writeNext(this.string);
    } else {
      const statement = this.advance(frame);
      if (!statement) return;
      this.waiting = true;
      this.play(statement);
    }
  }

  /** The next statement to play; undefined where this step only entered or left a `repeat`. */
  private advance(frame: Frame): Played | undefined {
    const statement = frame.body[frame.next];
    if (!statement) {
      frame.next = 0;
      if (--frame.left <= 0 || frame.body.length === 0) this.frames.pop();
      return undefined;
    }
    frame.next++;
    if (statement.kind !== 'repeat') return statement;
    if (statement.count > 0) this.frames.push({ body: statement.body, next: 0, left: statement.count });
    return undefined;
  }

  private play(statement: Played): void {
    switch (statement.kind) {
      case 'read':
      case 'cfgread':
      case 'irq':
        this.value(statement, (value) => this.judge(statement, value));
        break;
      case 'write': {
        const { space, address, size, value } = statement;
        this.access(space, 'write', address, size, value, () => this.done(statement));
        break;
      }
      case 'cfgwrite':
        this.config(statement.pci, statement.register, 'write', statement, () => this.done(statement));
        break;
      case 'outs':
        this.string = { statement, next: 0 };
        this.resume();
        break;
      case 'memread':
        this.guest.readMemory(statement.address, statement.length, (bytes) => this.bytes(statement, bytes));
        break;
      case 'memwrite':
        this.guest.writeMemory(statement.address, statement.bytes, () => this.done(statement));
        break;
      case 'irqs':
        this.guest.interrupts((interrupts) => this.report({ statement, kind: 'interrupts', interrupts }));
        break;
      case 'sleep':
        this.options.sleep(statement.ms, () => this.done(statement));
        break;
      case 'print':
        this.done(statement);
    }
  }

  private done(statement: Played): void {
    this.report({ statement, kind: 'done' });
  }

  /** A statement has come to its end. */
  private report(result: Result): void {
    if (this.isOver) return;
    this.options.onResult(result);
    this.resume();
  }

  private access(
    space: 'port' | 'memory',
    direction: 'read' | 'write',
    address: bigint,
    size: AccessSize,
    value: bigint,
    answer: (value: bigint) => void,
  ): void {
    this.summary.nrAccesses++;
    this.guest.access(space, direction, address, size, value, answer);
  }

  private writeNext(string: { readonly statement: OutString; next: number }): void {
    const { port, bytes } = string.statement;
    const byte = bytes[string.next++];
    if (byte !== undefined) {
      this.access('port', 'write', port, 1, BigInt(byte), this.resume);
    } else {
      this.string = undefined;
      this.done(string.statement);
    }
  }

  private value(statement: Valued, answer: (value: bigint) => void): void {
    switch (statement.kind) {
      case 'read':
        this.access(statement.space, 'read', statement.address, statement.size, 0n, answer);
        break;
      case 'cfgread':
        this.config(statement.pci, statement.register, 'read', statement, answer);
        break;
      case 'irq':
        this.guest.interrupts((state) => answer(state.isa.includes(statement.irq) ? 1n : 0n));
    }
  }

  /** As a guest does it: the address port, then the data port. */
  private config(
    { bus, device, fn }: PciFunction,
    register: number,
    direction: 'read' | 'write',
    { size, value = 0n }: { readonly size: 1 | 2 | 4; readonly value?: bigint },
    answer: (value: bigint) => void,
  ): void {
    const target = BigInt((bus << 16) | (device << 11) | (fn << 8) | (register & 0xfc));
    this.access('port', 'write', CONFIG_ADDRESS, 4, CONFIG_ENABLE | target, () => {
      if (!this.isOver) this.access('port', direction, CONFIG_DATA + BigInt(register & 3), size, value, answer);
    });
  }

  private judge(statement: Valued, value: bigint): void {
    const { check } = statement;
    if (!check) {
      this.report({ statement, kind: 'value', value });
    } else if (check.withinMs !== undefined && !holds(check, value)) {
      this.poll(statement, check, this.options.now() + check.withinMs);
    } else {
      this.reportChecked({ statement, kind: 'value', value, isOk: holds(check, value) });
    }
  }

  private poll(statement: Valued, check: Check, end: number): void {
    this.options.sleep(POLL_MS, () => {
      if (this.isOver) return;
      this.value(statement, (value) => {
        const isOk = holds(check, value);
        if (!isOk && this.options.now() < end && !this.options.signal?.aborted) this.poll(statement, check, end);
        else this.reportChecked({ statement, kind: 'value', value, isOk });
      });
    });
  }

  private bytes(statement: Extract<Statement, { kind: 'memread' }>, bytes: Uint8Array): void {
    const { expected } = statement;
    if (!expected) {
      this.report({ statement, kind: 'bytes', bytes });
      return;
    }
    const isOk = bytes.length === expected.length && expected.every((byte, i) => byte === bytes[i]);
    this.reportChecked({ statement, kind: 'bytes', bytes, isOk });
  }

  private reportChecked(result: Result & { readonly isOk: boolean }): void {
    if (this.isOver) return;
    this.summary.nrChecks++;
    if (!result.isOk) this.summary.nrFailures++;
    this.report(result);
  }
}
