import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Failpoint } from '@strata/base'
import { standsStill, until } from '@strata/e2e/testing'

const PRELOAD = new URL('../../stop-at.mjs', import.meta.url)

/**
 * Orders to stop at a step, which the preload of every service under test obeys: see stop-at.mjs.
 */
export class Orders {
  readonly #folder = mkdtempSync('/var/tmp/strata-orders-')

  /** Of the services that are to obey. */
  get environment(): Record<string, string> {
    return { STOP_AT: this.#folder, NODE_OPTIONS: `--import ${PRELOAD.href}` }
  }

  /**
   * The service that passes the step for the nth time from now on gets the signal right there;
   * `only`: counted for that request alone.
   */
  give(step: Failpoint, signal: 'SIGKILL' | 'SIGSTOP', { nth = 1, only }: { nth?: number; only?: string } = {}): void {
    rmSync(`${this.#order(step)}.taken`, { force: true })
    writeFileSync(this.#order(step), only === undefined ? `${signal} ${nth}` : `${signal} ${nth} ${only}`)
  }

  /**
   * Waits until one did, and has ended or stands still: it says so before it does it. Gives its
   * process.
   */
  async taken(step: Failpoint): Promise<number> {
    await until(() => this.wasTaken(step), `a service passes ${step}`)
    const pid = Number(readFileSync(`${this.#order(step)}.taken`, 'utf8'))
    await until(() => standsStill(pid), `the service that passed ${step} ends or stands still`)
    return pid
  }

  wasTaken(step: Failpoint): boolean {
    return existsSync(`${this.#order(step)}.taken`)
  }

  withdraw(step: Failpoint): void {
    rmSync(this.#order(step), { force: true })
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #order(step: Failpoint): string {
    return join(this.#folder, step)
  }
}
