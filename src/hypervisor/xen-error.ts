export * from '../boundary/xen-error.js';
