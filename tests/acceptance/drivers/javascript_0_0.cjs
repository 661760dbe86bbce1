// Drives npm's `wavespeed` 0.0.x: `node javascript_0_0.cjs ORDER`, both order and answer one line of JSON.
"use strict";
const { openAsBlob } = require("node:fs");
const { basename } = require("node:path");
const { WaveSpeed } = require("wavespeed");

const told = ({ client, ...prediction }) => ({
  prediction,
  status: prediction.status,
  outputs: prediction.outputs,
  id: prediction.id,
});

async function carryOut(order) {
  const client = new WaveSpeed(order.key, { baseUrl: `${order.base_url}/api/v3/`, pollInterval: 0.1 });
  switch (order.action) {
    case "run":
      return told(await client.run(order.model, order.input, { webhook: order.webhook }));
    case "create":
      return told(await client.create(order.model, order.input, { webhook: order.webhook }));
    case "get":
      return told(await client.getPrediction(order.id));
    case "upload":
      return { url: await client.upload(await openAsBlob(order.file), { filename: basename(order.file) }) };
    case "upload_nameless":
      return { url: await client.upload(await openAsBlob(order.file)) };
    default:
      throw new Error(`no action ${order.action}`);
  }
}

carryOut(JSON.parse(process.argv[2]))
  .catch((error) => ({ raised: error.name, message: error.message }))
  .then((answer) => process.stdout.write(`\n${JSON.stringify(answer)}\n`));
