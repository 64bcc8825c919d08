/** Playing a script against a guest that answers with values or promises; a guest of callbacks is played by play.ts. */
import { type CallbackGuest, type InterruptState, type PlayOptions, playScript, type Summary } from './play.js';
import type { AccessSize, Script } from './script.js';

export type { InterruptState, Result, Summary } from './play.js';

type Awaitable<T> = T | Promise<T>;

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

export interface RunOptions extends Omit<PlayOptions, 'sleep'> {
  readonly sleep: (ms: number) => Promise<void>;
}

/** Plays the script to its end; answers that are there at once are not waited for. @throws what the guest's side throws */
export function runScript(script: Script, guest: GuestIo, options: RunOptions): Promise<Summary> {
  return new Promise((resolve, reject) => {
    const settle = <T>(value: Awaitable<T>, answer: (value: T) => void): void => {
      if (value instanceof Promise) value.then(answer).catch((error: unknown) => playing.fail(error));
      else answer(value);
    };
    const callbacks: CallbackGuest = {
      access: (space, direction, address, size, value, answer) =>
        settle(guest.access(space, direction, address, size, value), answer),
      readMemory: (address, length, answer) => settle(guest.readMemory(address, length), answer),
      writeMemory: (address, bytes, answer) => settle(guest.writeMemory(address, bytes), answer),
      interrupts: (answer) => settle(guest.interrupts(), answer),
    };
    const playOptions = { ...options, sleep: (ms: number, then: () => void) => settle(options.sleep(ms), then) };
    const playing = playScript(script, callbacks, playOptions, (outcome) => {
      if ('summary' in outcome) resolve(outcome.summary);
      else reject(outcome.error);
    });
  });
}
