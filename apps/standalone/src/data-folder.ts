import { Logger } from '@nestjs/common'
import { migrate, type Migration } from '@strata/base'
import { FolderVersion } from '@strata/linux'

/**
 * What the versions of a data folder are, and how each is made of the one before: where in it
 * things lie (`layoutOf`), and what the secrets are. What lies in the store, the node's folder and
 * Redis has versions of its own. Version 1 is what commit d5153a4 makes.
 */
const DATA_MIGRATIONS: readonly Migration<string>[] = []

/** @throws StrataError `data_newer` */
export function openDataFolder(folder: string): Promise<void> {
  const tell = (message: string): void => new Logger('data').warn(message)
  return migrate(new FolderVersion('the data folder', folder), DATA_MIGRATIONS, folder, { tell })
}
