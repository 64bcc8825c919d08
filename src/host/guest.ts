/**
 * The guest's side of I/O until vCPUs run real code: plays scripts as a vCPU would, in the host's own thread, so that an
 * access costs what it would cost a vCPU.
 */
import type { Domain } from '../hypervisor/domain.js';
import { readGuest, writeGuest } from '../hypervisor/ioreq/guest-copy.js';
import { parseScript } from '../io-player/parse.js';
import { resultObject, resultText } from '../io-player/report.js';
import { type GuestIo, type InterruptState, type Result, runScript } from '../io-player/run.js';
import type { AccessSize, Script } from '../io-player/script.js';
import { XenError } from '../boundary/xen-error.js';
import type { LatencyHistogram } from './latency.js';
import type { Reactor } from './reactor.js';

/** Lines that one `postern io` may print. */
const MAX_LINES = 100_000;

export interface Played {
  readonly lines: string[];
  readonly failures: number;
}

export class GuestPlayer {
  constructor(
    private readonly reactor: Reactor,
    private readonly latencies: LatencyHistogram,
  ) {}

  /** Plays a script once. @throws ScriptError where it is not one */
  async play(domain: Domain, vcpu: number, text: string, json: boolean): Promise<Played> {
    const script = parseScript(text);
    const lines: string[] = [];
    const onResult = (result: Result) => {
      const line = json ? JSON.stringify(resultObject(result)) : resultText(result);
      if (line !== undefined && lines.length < MAX_LINES) lines.push(line);
    };
    const summary = await this.run(script, this.guestOf(domain, vcpu), onResult, { aborted: false });
    return { lines, failures: summary.nrFailures };
  }

  /** Plays a script over and over until the domain ends. @throws ScriptError */
  loop(domain: Domain, vcpu: number, text: string): void {
    const script: Script = [{ kind: 'repeat', count: Number.MAX_SAFE_INTEGER, body: parseScript(text), at: { line: 0, column: 0 } }];
    const signal = {
      get aborted() {
        return domain.isDying || domain.isShutDown;
      },
    };
    void this.run(script, this.guestOf(domain, vcpu), () => {}, signal);
  }

  private async run(script: Script, guest: GuestIo, onResult: (r: Result) => void, signal: { aborted: boolean }) {
    const sleep = (ms: number) => new Promise<void>((resolve) => void this.reactor.after(ms, resolve));
    this.reactor.promises++;
    try {
      return await runScript(script, guest, { onResult, sleep, now: () => performance.now(), signal });
    } finally {
      this.reactor.promises--;
    }
  }

  private guestOf(domain: Domain, vcpu: number): GuestIo {
    const hvm = domain.hvm;
    if (!hvm) throw new XenError('EINVAL', `domain ${domain.domid} is not HVM: it has no device model`);
    if (vcpu >= domain.nrVcpus) throw new XenError('EINVAL', `domain ${domain.domid} has no vCPU ${vcpu}`);
    const { dispatcher } = hvm.ioreq;
    const { latencies } = this;
    return {
      access(space, direction, addr, size: AccessSize, value) {
        const request = { space, addr, size, isWrite: direction === 'write', data: value };
        const started = performance.now();
        return new Promise<bigint>((resolve) => {
          dispatcher.start(vcpu, request, (result) => {
            if (result.outcome === 'served') latencies.add((performance.now() - started) * 1000);
            resolve(result.data);
          });
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
