/**
 * What an image archive may be: `docker-v1`, docker's before 1.10; `docker`, with manifest.json;
 * `oci`, an image layout; `docker+oci`, both in one.
 */
export const ARCHIVE_FORMATS = ['docker-v1', 'docker', 'oci', 'docker+oci'] as const
