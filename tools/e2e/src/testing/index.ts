export * from './busybox-image.js'
export * from './store-state.js'
export * from './strata.js'
export * from './unfinished-body.js'
