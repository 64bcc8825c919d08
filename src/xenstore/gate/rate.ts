/** Requests a second, as a bucket that fills with time and holds one second's worth. */
export class Rate {
  #tokens: number;
  #filledMs: number;

  /** @param perSecond 0 for no limit @param now milliseconds */
  constructor(
    private readonly perSecond: number,
    private readonly now: () => number,
  ) {
    this.#tokens = perSecond;
    this.#filledMs = now();
  }

  /** Takes one. @returns false where there is none */
  take(): boolean {
    if (this.perSecond === 0) return true;
    if (this.#tokens < 1) this.#fill();
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  /** When there will be one again. */
  nextMs(): number {
    return this.#filledMs + Math.max(0, ((1 - this.#tokens) * 1000) / this.perSecond);
  }

  #fill(): void {
    const now = this.now();
    const gained = ((now - this.#filledMs) * this.perSecond) / 1000;
    this.#tokens = Math.min(this.perSecond, this.#tokens + Math.max(0, gained));
    this.#filledMs = now;
  }
}
