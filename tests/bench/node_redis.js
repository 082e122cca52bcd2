// Cache-aside as it is usually written in an app. usage: node node_redis.js PORT REDIS_URL
const http = require('http');
const { createClient } = require('redis');
const [port, url] = process.argv.slice(2);
const client = createClient({ url });
client.on('error', (e) => { console.error(e); process.exit(1); });
const server = http.createServer(async (request, response) => {
  const text = await client.get(request.url.slice(1));
  const body = text === null ? '' : JSON.stringify(JSON.parse(text));
  response.writeHead(text === null ? 404 : 200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
});
server.keepAliveTimeout = 600e3;
client.connect().then(() => server.listen(+port, '127.0.0.1', 4096));
