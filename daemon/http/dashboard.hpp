// GET / of the admin API: one page over the API's own calls. Names come from configuration and keys from clients, so the page
// only ever sets text, never markup.
#pragma once

#include <string_view>

namespace asidecar::http {

inline constexpr std::string_view dashboard_policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";

inline constexpr std::string_view dashboard_page = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>asidecar</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}pre{background:#f5f5f5;padding:1rem;overflow:auto}
input{font:inherit;padding:.3rem .5rem;width:24rem;max-width:70%}button{font:inherit;padding:.3rem .8rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}th,td{border-color:#333}pre{background:#222}}
</style></head><body>
<h1>asidecar <span id="state"></span></h1>
<h2>Reads since the last reset</h2>
<table><thead><tr><th>route</th><th>hits</th><th>misses</th><th>errors</th><th>hit rate</th><th>average ms</th><th>requests</th></tr></thead><tbody id="routes"></tbody></table>
<h2>What is known of a key</h2>
<form id="ask"><input id="key" placeholder="user:1" aria-label="key"> <button>explain</button></form>
<pre id="told" hidden></pre>
<p><a href="/metrics">metrics</a> · <a href="/metrics/cache">figures as JSON</a> · <a href="/config">configuration</a></p>
<script>
const columns=["hits","misses","errors","hitRate","avgLatencyMs","totalRequests"];
const byId=id=>document.getElementById(id);
function row(name,figures){const tr=document.createElement("tr");
 for(const text of [name,...columns.map(c=>figures[c])]){const td=document.createElement("td");td.textContent=text;tr.append(td);}
 return tr;}
async function refresh(){
 try{
  const ready=await fetch("/readyz");byId("state").textContent=ready.ok?"· ready":"· not ready";
  const f=await (await fetch("/metrics/cache")).json();
  byId("routes").replaceChildren(row("all",f),...Object.entries(f.routes).map(([n,r])=>row(n,r)));
 }catch(e){byId("state").textContent="· no answer";}
}
byId("ask").addEventListener("submit",async event=>{event.preventDefault();
 const answer=await fetch("/v1/explain/"+encodeURIComponent(byId("key").value));
 byId("told").hidden=false;byId("told").textContent=JSON.stringify(await answer.json(),null,1);});
refresh();setInterval(refresh,2000);
</script></body></html>
)html";

}  // namespace asidecar::http
