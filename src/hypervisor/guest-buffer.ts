export * from '../boundary/guest-buffer.js';
