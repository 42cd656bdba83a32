import type { IndexColumns } from './columns.js'
export function validate(_columns: IndexColumns): void { /* follows */ }
