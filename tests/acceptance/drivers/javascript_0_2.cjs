// Drives npm's `wavespeed` from 0.2: `node javascript_0_2.cjs ORDER`, both order and answer one line of JSON.
"use strict";
const { Client } = require("wavespeed");

async function carryOut(order) {
  const client = new Client(order.key, { baseUrl: order.base_url });
  const options = { pollInterval: 0.1, enableSyncMode: order.sync ?? false };
  switch (order.action) {
    case "run":
      return await client.run(order.model, order.input, options);
    case "run_no_throw": {
      const { outputs, detail } = await client.runNoThrow(order.model, order.input, options);
      // 0.2 tells the error as text, 0.3 as an exception.
      const { name = null, message = detail.error } = detail.error ?? {};
      return { outputs, status: detail.status, task_id: detail.taskId, kind: name, error: message ?? null };
    }
    case "upload":
      return { url: await client.upload(order.file) };
    default:
      throw new Error(`no action ${order.action}`);
  }
}

carryOut(JSON.parse(process.argv[2]))
  .catch((error) => ({ raised: error.name, message: error.message }))
  .then((answer) => process.stdout.write(`\n${JSON.stringify(answer)}\n`));
