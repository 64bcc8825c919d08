/** Memory that can be shared with other processes: what a foreign mapping is made of. */

/** Zeroed, shareable memory with one owner for its whole life. */
export interface Extent {
  readonly nrFrames: number;
  /** The host's own view of the whole extent, nrFrames * 4096 bytes. Other processes may write it at any time. */
  readonly bytes: Uint8Array;
  /** Drops the host's view; other processes' mappings stay as they are. */
  release(): void;
}

/** Consecutive pages of a mapping that are consecutive frames of one extent. `page` counts from the mapping's start. */
export interface FrameRun {
  readonly page: number;
  readonly nrPages: number;
  readonly extent: Extent;
  readonly frame: number;
}

/** Pages of a mapping request that could not be mapped, each with the same errno (positive). */
export interface PageErrorRun {
  readonly page: number;
  readonly nrPages: number;
  readonly errno: number;
}

/** What mapping a list of frames came to. Whose frames they are stays findable until `release`, even after its end. */
export interface Mapping {
  readonly runs: readonly FrameRun[];
  readonly errors: readonly PageErrorRun[];
  /** To be called once, when nobody has the pages mapped any more. Can be kept without the rest. */
  readonly release: () => void;
}
