// Numbers of the last few seconds.

/** How far back a rate looks, and in which steps. */
const WINDOW_MS = 2_000;
const STEP_MS = 250;
const STEPS = WINDOW_MS / STEP_MS;

/** How many of something per second. */
export class Rate {
  #counts = new Float64Array(STEPS);
  #step = 0;
  #sinceMs = null;

  add(nowMs, count = 1) {
    this.#turn(nowMs);
    this.#counts[this.#step % STEPS] += count;
  }

  perSecond(nowMs) {
    this.#turn(nowMs);
    if (this.#sinceMs === null) return 0;
    const sum = this.#counts.reduce((total, count) => total + count, 0);
    // The newest step has just begun; and at first there is less than a window to look back on.
    const spanMs = Math.min(WINDOW_MS - STEP_MS + (nowMs % STEP_MS), nowMs - this.#sinceMs);
    return spanMs < STEP_MS ? 0 : (sum / spanMs) * 1_000;
  }

  /** Forgets the steps that have become old. */
  #turn(nowMs) {
    const step = Math.floor(nowMs / STEP_MS);
    this.#sinceMs ??= nowMs;
    for (let n = Math.max(this.#step + 1, step - STEPS + 1); n <= step; n += 1) this.#counts[n % STEPS] = 0;
    this.#step = Math.max(this.#step, step);
  }
}

/** Samples that quantiles are taken of, and how old they may be. */
const SAMPLES = 4_096;
const SAMPLE_MS_MAX = 5_000;

/** The newest of many measured times. */
export class Samples {
  #values = new Float64Array(SAMPLES);
  #taken = new Float64Array(SAMPLES).fill(-Infinity);
  #next = 0;

  add(nowMs, value) {
    this.#values[this.#next] = value;
    this.#taken[this.#next] = nowMs;
    this.#next = (this.#next + 1) % SAMPLES;
  }

  /** The values below which given parts of the last seconds' samples lie; NaN without samples. */
  quantiles(nowMs, parts) {
    const young = this.#values.filter((_, n) => nowMs - this.#taken[n] <= SAMPLE_MS_MAX).sort();
    return parts.map((part) => young[Math.min(Math.floor(part * young.length), young.length - 1)] ?? Number.NaN);
  }
}
