import { readFileSync } from 'node:fs'

/** Names this run of the kernel: another id means that the machine was started anew since. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
}
