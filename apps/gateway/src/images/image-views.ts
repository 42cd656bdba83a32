import type { ImageSummary, ImageView } from '@strata/api'
import type { ImageDetails, NamedImage } from '@strata/images'
import type { Digest } from '@strata/oci'

const created = (value: string | undefined): { created?: string } => (value === undefined ? {} : { created: value })

const platforms = ({ whole }: NamedImage): { platforms?: string[] } =>
  whole ? { platforms: whole.parts.flatMap(({ platform }) => platform ?? []) } : {}

/** An image as a list of the API shows it. */
export function imageSummary(image: NamedImage): ImageSummary {
  const { id, digest, names, size, layers } = image
  return { id, digest, names: [...names], size, layers, ...created(image.created), ...platforms(image) }
}

/** An image as the API shows it alone. `missing`: those of its layers that are not here. */
export function imageView(image: ImageDetails & NamedImage, missing: ReadonlySet<Digest>): ImageView {
  const { id, digest, names, size, mediaType } = image
  const config = image.config.config
  return {
    id,
    digest,
    names: [...names],
    size,
    mediaType,
    ...created(image.created),
    ...platforms(image),
    architecture: image.config.architecture,
    os: image.config.os,
    config: {
      user: config?.User ?? '',
      env: config?.Env ?? [],
      entrypoint: config?.Entrypoint ?? [],
      cmd: config?.Cmd ?? [],
      workdir: config?.WorkingDir ?? '',
      volumes: config?.Volumes ?? [],
      exposedPorts: config?.ExposedPorts ?? [],
      labels: config?.Labels ?? {},
      stopSignal: config?.StopSignal ?? '',
    },
    layers: image.layerList.map((layer) => (missing.has(layer.digest) ? { ...layer, missing: true } : layer)),
    history: image.history.map((step) => ({
      createdBy: step.createdBy,
      comment: step.comment,
      ...created(step.created),
      ...(step.diffId ? { diffId: step.diffId } : {}),
    })),
  }
}
