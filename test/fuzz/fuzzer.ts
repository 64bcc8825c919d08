/** What a fuzzer is, and how it says that it has found something. */

export interface Fuzzer {
  readonly name: string;
  /** Iterations of a smoke run: a second or two. */
  readonly smoke: number;
  /** @throws FuzzFailure, or whatever the code under test threw that it may not throw */
  run(seed: number, iterations: number): void;
}

/** Something that must never happen did. */
export class FuzzFailure extends Error {
  override readonly name = 'FuzzFailure';
}

/** Runs the step again and again; a failure says how to come back to it. */
export function iterate(name: string, seed: number, iterations: number, step: (iteration: number) => void): void {
  for (let i = 0; i < iterations; i++) {
    try {
      step(i);
    } catch (error) {
      const { message, stack } = error as Error;
      const again = `POSTERN_FUZZ_SEED=${seed} POSTERN_FUZZ_ITERATIONS=${i + 1}`;
      throw new FuzzFailure(`${name}, iteration ${i}: ${message}\nagain with ${again}\n${stack}`);
    }
  }
}
