import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { StrataError } from '@strata/base'

/** Of one file of the configuration: a hosts.toml, or certificates. */
const MAX_FILE_BYTES = 1024 * 1024

export function hostsInvalid(file: string, why: string, line?: number): StrataError {
  const place = line === undefined ? file : `${file}, line ${line}`
  return new StrataError('hosts_invalid', `the hosts configuration cannot be used: ${place}: ${why}`)
}

/** `undefined` if there is none. Anything else that keeps it from being read is an error. */
export async function readHostFile(file: string): Promise<string | undefined> {
  try {
    await using handle = await open(file)
    const { size } = await handle.stat()
    if (size > MAX_FILE_BYTES) throw hostsInvalid(file, `it has more than ${MAX_FILE_BYTES} bytes`)
    return await handle.readFile('utf8')
  } catch (error) {
    if (error instanceof StrataError) throw error
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw hostsInvalid(file, message)
  }
}

/** A file that another one names. */
async function readNamedFile(file: string): Promise<string> {
  const text = await readHostFile(file)
  if (text === undefined) throw hostsInvalid(file, 'there is no such file')
  return text
}

export async function readCertificates(file: string): Promise<string> {
  const text = await readNamedFile(file)
  if (!text.includes('-----BEGIN CERTIFICATE-----')) throw hostsInvalid(file, 'it holds no certificate in PEM')
  return text
}

/** `undefined` if there is no such folder. */
export async function listHostFolder(folder: string): Promise<readonly string[] | undefined> {
  try {
    return (await readdir(folder)).sort()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw hostsInvalid(folder, message)
  }
}

/** docker's layout: `*.crt` are authorities, `NAME.cert` and `NAME.key` what we show. */
export async function readCertificateFolder(
  folder: string,
  names: readonly string[],
): Promise<{ ca: string[]; client: { cert: string; key: string }[] }> {
  const ca: string[] = []
  const client: { cert: string; key: string }[] = []
  for (const name of names) {
    const file = join(folder, name)
    if (name.endsWith('.crt')) ca.push(await readCertificates(file))
    if (name.endsWith('.cert')) client.push(await readPair(file, file.replace(/\.cert$/, '.key')))
    if (name.endsWith('.key') && !names.includes(name.replace(/\.key$/, '.cert')))
      throw hostsInvalid(file, 'its certificate is missing: a file of the same name with .cert')
  }
  return { ca, client }
}

/** A certificate and its key, which may be in the same file. */
export async function readPair(certFile: string, keyFile: string): Promise<{ cert: string; key: string }> {
  const cert = await readCertificates(certFile)
  const key = (await readHostFile(keyFile)) ?? cert
  if (!/-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/.test(key))
    throw hostsInvalid(keyFile, 'it holds no private key in PEM')
  return { cert, key }
}
