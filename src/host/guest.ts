/**
 * The guest's side of I/O until vCPUs run real code: plays scripts as a vCPU would, in the host's own thread, so that an
 * access costs what it would cost a vCPU.
 */

import { XenError } from '../boundary/xen-error.js';
import type { Domain } from '../hypervisor/domain.js';
import { readGuest, writeGuest } from '../hypervisor/ioreq/guest-copy.js';
import { parseScript } from '../io-player/parse.js';
import { resultObject, resultText } from '../io-player/report.js';
import { type GuestIo, type InterruptState, type Result, type RunOptions, runScript } from '../io-player/run.js';
import type { AccessSize, Script } from '../io-player/script.js';
import { LatencyHistogram, type LatencySummary } from './latency.js';
import type { Reactor } from './reactor.js';

/** Lines that one `postern io` may print. */
const MAX_LINES = 100_000;

export interface Played {
  readonly lines: string[];
  readonly failures: number;
  /** The requests that a device model served, and how long each took. */
  readonly requests: LatencySummary;
}

export class GuestPlayer {
  constructor(
    private readonly reactor: Reactor,
    private readonly latencies: LatencyHistogram,
  ) {}

  /**
   * Plays a script once; then one of the two functions is called.
   * @throws ScriptError where it is not a script
   */
  play(
    domain: Domain,
    vcpu: number,
    text: string,
    json: boolean,
    done: (played: Played) => void,
    fail: (error: unknown) => void,
  ): void {
    const script = parseScript(text);
    const lines: string[] = [];
    const onResult = (result: Result) => {
      const line = json ? JSON.stringify(resultObject(result)) : resultText(result);
      if (line !== undefined && lines.length < MAX_LINES) lines.push(line);
    };
    const own = new LatencyHistogram();
    const guest = this.guestOf(domain, vcpu, own);
    void this.activity(async () => {
      try {
        const summary = await runScript(script, guest, this.options(onResult, { aborted: false }));
        done({ lines, failures: summary.nrFailures, requests: own.summary() });
      } catch (error) {
        fail(error);
      }
    });
  }

  /** Plays a script over and over until the domain ends. @throws ScriptError */
  loop(domain: Domain, vcpu: number, text: string): void {
    const at = { line: 0, column: 0 };
    const script: Script = [{ kind: 'repeat', count: Number.MAX_SAFE_INTEGER, body: parseScript(text), at }];
    const guest = this.guestOf(domain, vcpu);
    const signal = {
      get aborted() {
        return domain.isDying || domain.isShutDown;
      },
    };
    void this.activity(async () => {
      await runScript(
        script,
        guest,
        this.options(() => {}, signal),
      );
    });
  }

  private options(onResult: (result: Result) => void, signal: { readonly aborted: boolean }): RunOptions {
    const sleep = (ms: number) => this.parked<void>((resume) => void this.reactor.after(ms, resume));
    return { onResult, sleep, now: () => performance.now(), signal };
  }

  /** Counts as runnable except while it is parked. */
  private async activity(run: () => Promise<void>): Promise<void> {
    this.reactor.runnable++;
    try {
      await run();
    } finally {
      this.reactor.runnable--;
    }
  }

  /** A promise that something outside settles: until then the loop may sleep. */
  private parked<T>(begin: (resume: (value: T) => void) => void): Promise<T> {
    this.reactor.runnable--;
    return new Promise((resolve) => {
      begin((value) => {
        this.reactor.runnable++;
        resolve(value);
      });
    });
  }

  private guestOf(domain: Domain, vcpu: number, own?: LatencyHistogram): GuestIo {
    const hvm = domain.hvm;
    if (!hvm) throw new XenError('EINVAL', `domain ${domain.domid} is not HVM: it has no device model`);
    if (vcpu >= domain.nrVcpus) throw new XenError('EINVAL', `domain ${domain.domid} has no vCPU ${vcpu}`);
    const { dispatcher } = hvm.ioreq;
    const { latencies } = this;
    const parked = this.parked.bind(this);
    return {
      access(space, direction, addr, size: AccessSize, value) {
        const request = { space, addr, size, isWrite: direction === 'write', data: value };
        const started = performance.now();
        let answer: bigint | undefined;
        let resume: ((data: bigint) => void) | undefined;
        dispatcher.start(vcpu, request, ({ data, outcome }) => {
          if (outcome === 'served') {
            const us = (performance.now() - started) * 1000;
            latencies.add(us);
            own?.add(us);
          }
          answer = data;
          resume?.(data);
        });
        if (answer !== undefined) return answer;
        return parked<bigint>((wake) => {
          resume = wake;
        });
      },
      readMemory(address, length) {
        const bytes = new Uint8Array(length);
        if (!readGuest(domain, address, bytes)) throw new XenError('EFAULT', `no memory at 0x${address.toString(16)}`);
        return bytes;
      },
      writeMemory(address, bytes) {
        if (!writeGuest(domain, address, bytes)) throw new XenError('EFAULT', `no memory at 0x${address.toString(16)}`);
      },
      interrupts: (): InterruptState => hvm.interrupts.asserted(),
    };
  }
}
