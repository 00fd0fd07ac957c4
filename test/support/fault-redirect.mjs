/**
 * Preloaded into a process (`node --import`): its connections to one port go to another instead. A broker tells its clients an
 * advertised address, so naming a proxy as the broker is not enough to stand between the two.
 *
 * FAULT_REDIRECT=9092:40001
 */
import net from "node:net";

const [from, to] = process.env["FAULT_REDIRECT"].split(":").map(Number);
const connect = net.connect;

net.connect = (options, ...rest) =>
  connect(typeof options === "object" && Number(options.port) === from ? { ...options, port: to } : options, ...rest);
