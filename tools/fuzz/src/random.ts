/** Numbers that follow from a seed alone (mulberry32), so that every case can be made again. */
export class Random {
  constructor(private state: number) {}

  /** From 0 to `below` - 1. */
  number(below: number): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below)
  }

  /** True once in `often`. */
  once(often: number): boolean {
    return this.number(often) === 0
  }

  of<T>(all: readonly T[]): T {
    return all[this.number(all.length)]!
  }

  some<T>(most: number, make: () => T): T[] {
    return Array.from({ length: this.number(most + 1) }, make)
  }
}
