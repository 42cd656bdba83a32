import { accessSync, constants, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { ask, end, run, start } from '../processes.mjs'

const KEYS = { access: 'bench', secret: 'bench-secret' }
const PROGRAMS = [
  process.env.MINIO,
  join(import.meta.dirname, '../../../.tools/bin/minio'),
  ...(process.env.PATH ?? '').split(':').map((folder) => join(folder, 'minio')),
]

/** A MinIO of our own on one folder and a free port of the loopback. */
export class Minio {
  #buckets = 0

  static absent() {
    return program() === undefined ? 'MinIO is not built: node tools/setup/go-programs.mjs does it' : undefined
  }

  static async start(workspace) {
    const minio = new Minio()
    minio.data = workspace.part('minio')
    const port = await freePort()
    minio.endpoint = `http://127.0.0.1:${port}`
    minio.process = await start(
      program(),
      ['server', join(minio.data, 'drive'), '--address', `127.0.0.1:${port}`, '--quiet'],
      {
        env: {
          MINIO_ROOT_USER: KEYS.access,
          MINIO_ROOT_PASSWORD: KEYS.secret,
          MINIO_BROWSER: 'off',
          MINIO_UPDATE: 'off',
        },
        log: join(minio.data, 'log'),
        isReady: () => ask('curl', ['-sf', `${minio.endpoint}/minio/health/ready`]) !== undefined,
      },
    )
    minio.version = `MinIO ${/RELEASE\.\S+|DEVELOPMENT\S*/.exec(ask(program(), ['--version']) ?? '')?.[0] ?? ''}`.trim()
    await minio.fresh()
    return minio
  }

  /** A new bucket in place of the one before. */
  async fresh() {
    if (this.bucket) rmSync(join(this.data, 'drive', this.bucket), { recursive: true, force: true })
    this.bucket = `bench-${++this.#buckets}`
    await run('curl', [
      '-sSf',
      '-X',
      'PUT',
      '--aws-sigv4',
      'aws:amz:us-east-1:s3',
      '-u',
      `${KEYS.access}:${KEYS.secret}`,
      `${this.endpoint}/${this.bucket}`,
    ])
  }

  environment() {
    return {
      STRATA_STORE: `s3://${this.bucket}`,
      STRATA_S3_ENDPOINT: this.endpoint,
      STRATA_S3_ACCESS_KEY: KEYS.access,
      STRATA_S3_SECRET_KEY: KEYS.secret,
    }
  }

  async stop() {
    await end(this.process)
  }
}

function program() {
  return PROGRAMS.find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}
