/**
 * The guest's side of I/O until vCPUs run real code: plays scripts as a vCPU would, in the host's own thread, so that an
 * access costs what it would cost a vCPU.
 */
import { XenError } from '../boundary/xen-error.js';
import type { Domain } from '../hypervisor/domain.js';
import { readGuest, writeGuest } from '../hypervisor/ioreq/guest-copy.js';
import { parseScript } from '../io-player/parse.js';
import { type CallbackGuest, type PlayOptions, playScript, type Result } from '../io-player/play.js';
import { resultObject, resultText } from '../io-player/report.js';
import type { Script } from '../io-player/script.js';
import type { IoScript, Played } from './commands.js';
import { LatencyHistogram } from './latency.js';
import type { Reactor } from './reactor.js';

/** Lines that one `postern io` may print. */
const MAX_LINES = 100_000;

export class GuestPlayer {
  constructor(
    private readonly reactor: Reactor,
    private readonly latencies: LatencyHistogram,
  ) {}

  /**
   * Plays a script once; `done` gets what it printed, as far as it came.
   * @throws ScriptError where it is not a script, XenError where the domain cannot play it
   */
  play(domain: Domain, { vcpu, script, json }: IoScript & { json: boolean }, done: (played: Played) => void): void {
    const lines: string[] = [];
    const onResult = (result: Result) => {
      const line = json ? JSON.stringify(resultObject(result)) : resultText(result);
      if (line !== undefined && lines.length < MAX_LINES) lines.push(line);
    };
    const own = new LatencyHistogram();
    const options = this.options(onResult, { aborted: false });
    playScript(parseScript(script), this.guestOf(domain, vcpu, own), options, (outcome) => {
      const requests = own.summary();
      if ('summary' in outcome) return done({ lines, failures: outcome.summary.nrFailures, requests });
      if (!(outcome.error instanceof XenError)) throw outcome.error;
      done({ lines, failures: 1, requests, error: outcome.error.message });
    });
  }

  /** Plays a script over and over until the domain ends. @throws likewise */
  loop(domain: Domain, { vcpu, script }: IoScript): void {
    const at = { line: 0, column: 0 };
    const endless: Script = [{ kind: 'repeat', count: Number.MAX_SAFE_INTEGER, body: parseScript(script), at }];
    const signal = {
      get aborted() {
        return domain.isDying || domain.isShutDown;
      },
    };
    const options = this.options(() => {}, signal);
    playScript(endless, this.guestOf(domain, vcpu), options, (outcome) => {
      if ('error' in outcome && !(outcome.error instanceof XenError)) throw outcome.error;
    });
  }

  private options(onResult: (result: Result) => void, signal: { readonly aborted: boolean }): PlayOptions {
    const sleep = (ms: number, then: () => void) => void this.reactor.after(ms, then);
    return { onResult, sleep, now: () => performance.now(), signal };
  }

  private guestOf(domain: Domain, vcpu: number, own?: LatencyHistogram): CallbackGuest {
    const { hvm, domid } = domain;
    if (!hvm) throw new XenError('EINVAL', `domain ${domid} is not HVM: it has no device model`);
    if (vcpu >= domain.nrVcpus) throw new XenError('EINVAL', `domain ${domid} has no vCPU ${vcpu}`);
    const { dispatcher } = hvm.ioreq;
    const { latencies } = this;
    return {
      access(space, direction, addr, size, value, answer) {
        if (dispatcher.isWaiting(vcpu)) throw new XenError('EBUSY', `vCPU ${vcpu} is in an access already`);
        const started = performance.now();
        dispatcher.start(vcpu, { space, addr, size, isWrite: direction === 'write', data: value }, (result) => {
          if (result.outcome === 'served') {
            const us = (performance.now() - started) * 1000;
            latencies.add(us);
            own?.add(us);
          }
          answer(result.data);
        });
      },
      readMemory(address, length, answer) {
        const bytes = new Uint8Array(length);
        if (!readGuest(domain, address, bytes)) throw noMemory(address);
        answer(bytes);
      },
      writeMemory(address, bytes, answer) {
        if (!writeGuest(domain, address, bytes)) throw noMemory(address);
        answer();
      },
      interrupts: (answer) => answer(hvm.interrupts.asserted()),
    };
  }
}

function noMemory(address: bigint): XenError {
  return new XenError('EFAULT', `the guest has no memory at 0x${address.toString(16)}`);
}
