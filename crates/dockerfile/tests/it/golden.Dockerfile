FROM bench/busybox AS base2
FROM bench/busybox AS base
ARG NAME=value
ENV A=1 B="two words"
RUN echo "$A" > /a
RUN ["/bin/sh", "-c", "true"]
WORKDIR /w/x
COPY --chown=12:root --chmod=0640 <<one <<"two" dst/
hello $A
one
raw $A
two
RUN --mount=type=cache,target=/c,id=cid,sharing=locked --mount=type=tmpfs,target=/t,size=1m true
RUN --mount=type=cache,target=/c,uid=5,mode=0700 true
RUN --network=none --mount=type=bind,from=base2,source=/bin,target=/mnt,rw true
RUN --mount=type=secret,id=tok --mount=type=secret,id=env,env=TOK --mount=type=ssh true
RUN <<E
echo one
E
RUN <<S
#!/bin/sh
echo script
S
RUN cat <<X > /x
text
X
USER 0:0
RUN id
COPY --from=base2 /bin/busybox /bin/ls* /bin2/
COPY --from=base2 --chmod=u+x --exclude=*.o /bin/busybox /bin3
ADD --unpack=false https://example.invalid/f/x.tar.gz?y=1 /dl/
FROM scratch
COPY --from=base /a /
