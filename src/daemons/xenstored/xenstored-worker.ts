/** The thread of `postern xenstored`. */
import { serveReactor } from '../../host/reactor-worker.js';
import { KernelLink } from './kernel-ring.js';
import type { XenstoredOptions } from './options.js';
import { Xenstored } from './xenstored.js';

serveReactor<XenstoredOptions>((options, reactor, starter) => {
  const { hostSocket } = options;
  const kernel =
    hostSocket === undefined
      ? null
      : new KernelLink(hostSocket, () => starter.end(`the host at ${hostSocket} has ended`));
  return new Xenstored(options, reactor, starter.log, kernel);
});
