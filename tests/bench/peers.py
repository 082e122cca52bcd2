"""The peers: what else a user could put between an app and its Redis. Each runs with one worker, logs off, keep-alive without limit, and gets
its values from the floor server or from Redis. A peer whose package is missing says so and is left out."""
import os
import shutil

from servers import HOST, ROOT, Server, json_body

NGINX_MODULES = ("/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so")


class Peer(Server):
    program = ""
    packages = ""

    def __init__(self, directory, core, body_bytes, source):
        super().__init__(directory, core, body_bytes)
        self.source = source  # the floor server as its origin, or Redis

    @classmethod
    def missing(cls):
        """Why it cannot run here; empty: it can."""
        return "" if shutil.which(cls.program) else f"{cls.program} is not installed ({cls.packages})"

    def fill(self):
        self.get(self.path)


class AsksRedis:
    """A peer whose source is Redis, which it asks for every request."""

    @property
    def store(self):
        return self.source


class Nginx(Peer):
    program = "nginx"
    packages = "nginx-extras libnginx-mod-http-lua lua-nginx-redis"
    http = ""

    def location(self):
        raise NotImplementedError

    def command(self):
        home = self.directory / self.slug
        home.mkdir(exist_ok=True)
        modules = "".join(f"load_module {m};\n" for m in NGINX_MODULES)
        temporary = "".join(f"{kind}_temp_path {home}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        file = home / "nginx.conf"
        file.write_text(f"""{modules}
worker_processes 1; daemon off; user root; pid {home}/pid; error_log {home}/error.log warn; worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; sendfile on; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  {temporary}
  {self.http.format(home=home)}
  upstream origin {{ server {HOST}:{self.source.port}; keepalive 64; }}
  server {{ listen {HOST}:{self.port} backlog=4096; {self.location()} }}
}}
""")
        return ["nginx", "-p", str(home), "-c", str(file)]


class NginxProxyCache(Nginx):
    name = "nginx proxy_cache"
    path = "/s/1"
    http = "proxy_cache_path {home}/cache levels=1:2 keys_zone=values:64m max_size=1g inactive=24h use_temp_path=off;"

    def location(self):
        return ("location / { open_file_cache max=20000 inactive=1h; open_file_cache_valid 1h; proxy_cache values; proxy_cache_valid 200 10h; "
                'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://origin; }')


class NginxLuaDict(Nginx):
    name = "nginx lua dict"
    path = "/s/1"
    http = "lua_shared_dict values 256m;"

    def location(self):
        return """
location / { content_by_lua_block {
  local held = ngx.shared.values
  local key = ngx.var.uri
  local value = held:get(key)
  if value == nil then
    value = ngx.location.capture("/origin" .. key).body
    held:set(key, value, 36000)
  end
  ngx.header["Content-Type"] = "application/json"
  ngx.header["Content-Length"] = #value
  ngx.print(value)
} }
location /origin/ { internal; rewrite ^/origin(.*)$ $1 break; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://origin; }"""


class NginxLuaRedis(AsksRedis, Nginx):
    name = "nginx lua redis tcp"
    path = "/plain:s:1"

    def where(self):
        return f'"{HOST}", {self.source.port}'

    def location(self):
        return f"""
location / {{ content_by_lua_block {{
  local connection = require("nginx.redis"):new()
  connection:set_timeout(1000)
  local fine, why = connection:connect({self.where()})
  if not fine then ngx.status = 502 ngx.print(why) return end
  local value = connection:get(string.sub(ngx.var.uri, 2))
  connection:set_keepalive(60000, 1024)
  if not value or value == ngx.null then ngx.status = 404 ngx.print("no") return end
  ngx.header["Content-Type"] = "application/json"
  ngx.header["Content-Length"] = #value
  ngx.print(value)
}} }}"""

    def fill(self):
        self.source.set("plain:s:1", json_body(self.body_bytes))
        super().fill()


class NginxLuaRedisUnix(NginxLuaRedis):
    name = "nginx lua redis unix"

    def where(self):
        return f'"unix:{self.source.socket_path}"'


class Haproxy(Peer):
    name = "HAProxy cache"
    path = "/s/1"
    program = "haproxy"
    packages = "haproxy"

    def command(self):
        file = self.directory / "haproxy.cfg"
        file.write_text(f"""global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  timeout http-keep-alive 600s
cache values
  total-max-size 256
  max-object-size 65536
  max-age 36000
frontend in
  bind {HOST}:{self.port}
  default_backend out
backend out
  http-request cache-use values
  http-response cache-store values
  server origin {HOST}:{self.source.port}
""")
        return ["haproxy", "-f", str(file)]


class Varnish(Peer):
    name = "Varnish"
    path = "/s/1"
    program = "varnishd"
    packages = "varnish"

    def command(self):
        home = self.directory / "varnish"
        home.mkdir(exist_ok=True)
        file = home / "default.vcl"
        file.write_text(f'vcl 4.1;\nbackend default {{ .host = "{HOST}"; .port = "{self.source.port}"; }}\nsub vcl_backend_response {{ set beresp.ttl = 10h; }}\n')
        return ["varnishd", "-F", "-j", "none", "-n", str(home), "-a", f"{HOST}:{self.port}", "-f", str(file), "-s", "malloc,256m",
                "-p", "thread_pools=1", "-p", "thread_pool_min=64", "-p", "thread_pool_timeout=600", "-p", "timeout_idle=600"]


class NodeRedis(AsksRedis, Peer):
    """The usual way in an app: GET, JSON.parse, JSON.stringify; node-redis pipelines by itself."""
    name = "Node + node-redis"
    path = "/plain:json:1"
    program = "node"
    packages = "nodejs node-redis"

    @classmethod
    def missing(cls):
        return super().missing() or ("" if os.path.isdir("/usr/share/nodejs/redis") else f"node-redis is not installed ({cls.packages})")

    def command(self):
        return ["env", "NODE_PATH=/usr/share/nodejs", "node", str(ROOT / "tests/bench/node_redis.js"), str(self.port), f"redis://{HOST}:{self.source.port}"]

    def fill(self):
        self.source.set("plain:json:1", json_body(self.body_bytes))
        super().fill()
