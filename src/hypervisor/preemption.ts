export * from '../boundary/operation.js';
