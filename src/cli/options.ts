/** Option values, checked where they are read, with messages that say what would do. */
import { InvalidArgumentError, Option } from 'commander';
import type { DomainPlan } from '../host/commands.js';

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`a whole number from ${min} to ${max} is needed.`);
    }
    return value;
  };
}

/** A file's permissions: `660`. */
export function octalMode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw new InvalidArgumentError('three octal digits are needed, such as 660.');
  return Number.parseInt(text, 8);
}

/** `2,1`: vCPUs of the domains in order. */
export function vcpuList(text: string): number[] {
  return text.split(',').map(integer(1, 128));
}

/** As many as a timer can wait: 24 days. */
const MAX_SECONDS = 2_147_483;

/** Seconds, fractions allowed. */
export function seconds(text: string): number {
  const value = Number(text);
  if (!(value > 0) || value > MAX_SECONDS) {
    throw new InvalidArgumentError(`a number of seconds greater than 0 and up to ${MAX_SECONDS} is needed.`);
  }
  return value;
}

/** `--xenstore external`. */
export function xenstoreOption(): Option {
  const what = 'who serves the XenStore: the host itself, or a daemon started under it, such as xenstored';
  return new Option('--xenstore <who>', what).choices(['embedded', 'external']).default('embedded');
}

/** HVM domains first, then PV ones; the last number of vCPUs serves for all domains after it. */
export function planDomains(options: {
  domains: number;
  memory: number;
  vcpus: readonly number[];
  pv?: number;
}): DomainPlan[] {
  const { domains, memory: memoryMiB, vcpus, pv = 0 } = options;
  return Array.from({ length: domains + pv }, (_, i) => ({
    kind: i < domains ? ('hvm' as const) : ('pv' as const),
    memoryMiB,
    vcpus: i < domains ? (vcpus[i] ?? vcpus.at(-1) ?? 1) : 1,
  }));
}
