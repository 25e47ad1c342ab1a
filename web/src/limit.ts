// At most so many at once; the rest wait in order. A browser has six connections to a server, and an answer holds one.

export type Limit = <T>(work: () => Promise<T>) => Promise<T>;

/** Waiting work is bounded by what the reader chose to add. */
export function limit(max: number): Limit {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= max) await new Promise<void>((start) => waiting.push(start));
    else running += 1;
    try {
      return await work();
    } finally {
      // The place passes to the next in line without being given up in between.
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
