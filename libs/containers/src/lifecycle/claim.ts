import { StrataError } from '@strata/base'
import { argsOf, envOf, hostnameOf, workdirOf } from '../runtime/command.js'
import type { ContainerClaim } from '../container.js'

const ID = /^[0-9a-f]{64}$/
/** As docker's. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/

export function isContainerId(text: string): boolean {
  return ID.test(text)
}

/** Ids become names of folders and cgroups. */
export function checkId(id: string): void {
  if (!ID.test(id))
    throw new StrataError('bad_request', `${JSON.stringify(id.slice(0, 100))} is not a container's id of 64 hex digits`)
}

/** All of a claim that can be told to be wrong without the image's root. */
export function checkClaim(id: string, { image, request, name }: ContainerClaim): void {
  if (name !== undefined && !NAME.test(name))
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(name.slice(0, 200))} is not a container's name of letters, digits, "_", "." and "-"`,
    )
  argsOf(image, request)
  const hostname = hostnameOf(id, request, 'host')
  envOf(image.config, request, { hostname, home: '/' })
  workdirOf(image.config, request)
}
