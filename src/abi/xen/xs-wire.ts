/** XenStore's wire format is no hypercall: dom0's kernel knows it, too. */
export * from '../xs-wire.js';
