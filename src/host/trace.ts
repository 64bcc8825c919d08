/**
 * What clients ask for and what they get: counters always, and where asked for a trace of one JSON object a line. A
 * client can make any number of calls and failures, so everything kept here is bounded.
 */
import { closeSync, openSync, writeSync } from 'node:fs';

/** One call as the trace shows it. `errno` is a name; `ret` is negative where it is set. */
export interface CallRecord {
  /** Milliseconds since the epoch, with fractions. */
  time: number;
  pid: number;
  device: string;
  call: string;
  domid?: number | undefined;
  operation?: string | undefined;
  ret: number;
  errno?: string | undefined;
  /** `refused`: not allowed, or not audited as sound; `failed`: allowed, but it could not be done. */
  verdict: 'allowed' | 'refused' | 'failed' | 'violation';
  reason?: string | undefined;
}

const REFUSALS = new Set(['EPERM', 'EACCES', 'E2BIG', 'EFAULT']);
/** Distinct call names and refusal reasons that are counted by name. */
const MAX_NAMES = 512;
const FLUSH_BYTES = 1 << 16;

export function verdictOf(errno: string): CallRecord['verdict'] {
  return REFUSALS.has(errno) ? 'refused' : 'failed';
}

class Counters {
  private readonly counts = new Map<string, number>();

  add(name: string): void {
    const key = this.counts.has(name) || this.counts.size < MAX_NAMES ? name : '(others)';
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
  }

  toObject(): Record<string, number> {
    return Object.fromEntries([...this.counts].sort((a, b) => b[1] - a[1]));
  }
}

/** Counts of calls by name and operation: two look-ups of constant strings a call, none put together. */
class CallCounters {
  private readonly counts = new Map<string, Map<string, { count: number }>>();
  private nrNames = 0;

  add(call: string, operation = ''): void {
    const counter = this.counts.get(call)?.get(operation);
    if (counter) counter.count++;
    else this.addNew(call, operation);
  }

  private addNew(call: string, operation: string): void {
    if (this.nrNames >= MAX_NAMES && call !== '(others)') return this.add('(others)');
    this.nrNames++;
    let operations = this.counts.get(call);
    if (!operations) {
      operations = new Map();
      this.counts.set(call, operations);
    }
    operations.set(operation, { count: 1 });
  }

  toObject(): Record<string, number> {
    const rows: [string, number][] = [];
    for (const [call, operations] of this.counts) {
      for (const [operation, { count }] of operations) rows.push([nameOf(call, operation), count]);
    }
    return Object.fromEntries(rows.sort((a, b) => b[1] - a[1]));
  }
}

function nameOf(call: string, operation: string | undefined): string {
  return operation ? `${call} ${operation}` : call;
}

export interface CallCounts {
  readonly calls: Record<string, number>;
  readonly refusals: Record<string, number>;
}

export class Trace {
  private readonly calls = new CallCounters();
  private readonly refusals = new Counters();
  private readonly fd: number | undefined;
  private lines: string[] = [];
  private pendingBytes = 0;

  /** @param file where to write the trace; without one only the counters are kept */
  constructor(file?: string) {
    this.fd = file === undefined ? undefined : openSync(file, 'w');
  }

  /** True where records are worth putting together in full. */
  get detailed(): boolean {
    return this.fd !== undefined;
  }

  /** Counts a call that went through; the cheap path when no trace is written. */
  countAllowed(call: string, operation?: string): void {
    this.calls.add(call, operation);
  }

  record(record: CallRecord): void {
    this.calls.add(record.call, record.operation);
    if (record.verdict === 'refused' || record.verdict === 'violation') {
      this.refusals.add(`${record.errno ?? 'closed'} ${nameOf(record.call, record.operation)}: ${record.reason ?? ''}`);
    }
    this.write(record);
  }

  private write(record: object): void {
    if (this.fd === undefined) return;
    const line = `${JSON.stringify(record)}\n`;
    this.lines.push(line);
    this.pendingBytes += line.length;
    if (this.pendingBytes >= FLUSH_BYTES) this.flush();
  }

  /** A client broke a rule and lost what it broke it on. */
  violation(pid: number, device: string, reason: string): void {
    const time = performance.timeOrigin + performance.now();
    this.record({ time, pid, device, call: 'connection', ret: -1, verdict: 'violation', reason });
  }

  /** Something that a domain was denied for want of a quota or a right, or because it broke the protocol. */
  denial(device: string, what: string, domid: number, errno: string | null, reason: string): void {
    this.refusals.add(`${errno ?? 'dropped'} ${device}: domain ${domid}, ${what}`);
    this.note({ device, call: what, domid, errno: errno ?? undefined, verdict: 'refused', reason });
  }

  /** Anything else worth a line. */
  note(record: object): void {
    this.write({ time: performance.timeOrigin + performance.now(), ...record });
  }

  counts(): CallCounts {
    return { calls: this.calls.toObject(), refusals: this.refusals.toObject() };
  }

  /** Writes what is pending; the host calls it whenever it has nothing else to do. */
  flush(): void {
    if (this.fd === undefined || this.lines.length === 0) return;
    writeSync(this.fd, this.lines.join(''));
    this.lines = [];
    this.pendingBytes = 0;
  }

  close(): void {
    this.flush();
    if (this.fd !== undefined) closeSync(this.fd);
  }
}
