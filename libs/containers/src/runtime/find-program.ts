import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { StrataError } from '@strata/base'

/** Absolute, as conmon wants the runtime's path. Also where a user's PATH does not lead. */
export function findProgram(name: string): string {
  for (const folder of [
    ...(process.env['PATH'] ?? '').split(':'),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
    '/usr/local/bin',
    '/usr/bin',
    '/bin',
  ]) {
    if (!folder.startsWith('/')) continue
    try {
      accessSync(join(folder, name), constants.X_OK)
      return join(folder, name)
    } catch {
      continue
    }
  }
  throw new StrataError(
    'driver_unavailable',
    `${name} is not installed: install the package ${name} (apt-get install ${name})`,
  )
}
