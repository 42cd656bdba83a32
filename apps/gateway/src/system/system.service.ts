import { Injectable } from '@nestjs/common'
import { API_VERSION, type InfoView, type VersionView } from '@strata/api'
import { Images } from '@strata/images'
import { NodeDirectory } from '@strata/queue'
import { ContainerDirectory } from '../containers/container-directory.js'
import { VERSION } from '../version.js'

/** Versions, and what this installation has. */
@Injectable()
export class SystemService {
  constructor(
    private readonly images: Images,
    private readonly containers: ContainerDirectory,
    private readonly nodes: NodeDirectory,
  ) {}

  version(): VersionView {
    return { version: VERSION, api: API_VERSION, node: process.version }
  }

  /**
   * Counts images by their names' marks (`Names.count`), and containers page by page. Nothing that
   * was counted is kept.
   */
  async info(gone: AbortSignal): Promise<InfoView> {
    const containers = { running: 0, exited: 0, created: 0, unknown: 0 }
    const [images, nodes] = await Promise.all([
      this.images.all.count(),
      this.nodes.list(),
      this.containers.visit(gone, ({ state }) => (containers[state] += 1)),
    ])
    return {
      version: VERSION,
      images,
      containers,
      nodes: nodes.map(({ id, driver, driverReason, runtime, kernel, warnings }) => ({
        id,
        driver,
        driverReason,
        runtime,
        kernel,
        warnings,
      })),
    }
  }
}
