import { All, Body, Controller, Get, Module, Param, Post, Req, Res } from '@nestjs/common'
import { asStrataError, StrataError, toldToCaller, type ErrorCode } from '@strata/base'
import { Repositories } from '@strata/images'
import { parseReference } from '@strata/oci'
import { PROBLEMS, type ErrorForm } from '@strata/platform'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { SystemService } from '../system/system.service.js'

/** The specification's codes. What it has no code for is UNKNOWN. */
const CODES: Partial<Record<ErrorCode, string>> = {
  image_not_found: 'MANIFEST_UNKNOWN',
  name_invalid: 'NAME_INVALID',
  unauthorized: 'UNAUTHORIZED',
  limit_exceeded: 'SIZE_INVALID',
}
export const registryErrors: ErrorForm = (thrown) => {
  const error = asStrataError(thrown)
  const { code, message } = toldToCaller(error)
  return {
    status: PROBLEMS[error.code].status,
    headers: {
      'content-type': 'application/json',
      ...(code === 'unauthorized' ? { 'www-authenticate': 'Basic realm="strata"' } : {}),
    },
    body: JSON.stringify({ errors: [{ code: CODES[code] ?? 'UNKNOWN', message, detail: { code } }] }),
  }
}

const noteSchema = z.strictObject({ note: z.string() })

/** A few routes of the distribution specification. */
@Controller()
export class RegistryController {
  constructor(
    private readonly repositories: Repositories,
    private readonly system: SystemService,
  ) {}

  @Get('v2')
  base(@Res({ passthrough: true }) reply: FastifyReply): void {
    void reply.header('docker-distribution-api-version', 'registry/2.0').header('x-strata', this.system.version().api)
  }

  @Post('v2/notes/:id')
  note(@Param('id') _id: string, @Body({ schema: noteSchema }) { note }: z.infer<typeof noteSchema>): string {
    return note
  }

  /** A repository's name has slashes, and the last segments say what is wanted of it. */
  @All('v2/*')
  async repository(@Req() { method, raw }: FastifyRequest, @Res({ passthrough: true }) reply: FastifyReply) {
    const [, name, reference] = /^\/v2\/(.+)\/manifests\/([^/?]+)$/.exec(raw.url ?? '') ?? []
    if (method !== 'GET' || name === undefined || reference === undefined)
      throw new StrataError('not_found', `there is no ${method} ${raw.url ?? ''}`)
    const { repository, tag, digest } = parseReference(`${name}${reference.includes(':') ? '@' : ':'}${reference}`)
    const found = tag ? (await this.repositories.tags.get(repository, tag))?.digest : digest
    const manifest = found && (await this.repositories.manifests.get(repository, found))
    if (!manifest) throw new StrataError('image_not_found', `${name} has no manifest ${reference}`)
    void reply.header('docker-content-digest', manifest.digest).type(manifest.mediaType)
    return manifest.bytes
  }
}

@Module({})
export class BothApis {}
