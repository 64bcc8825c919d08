/** The thread of `postern xenstored`. */
import { serveDaemon } from '../daemon-worker.js';
import { KernelLink } from './kernel-ring.js';
import type { XenstoredOptions } from './options.js';
import { Xenstored } from './xenstored.js';

serveDaemon<XenstoredOptions>((options, reactor) => {
  const { hostSocket } = options;
  const kernel = hostSocket === undefined ? null : new KernelLink(hostSocket, () => reactor.stop());
  return new Xenstored(options, reactor, kernel);
});
