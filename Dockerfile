FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# Libraries are not inlined, for 3 MB less: go-redis alone has 13,000 functions, and what a page costs is elsewhere.
RUN CGO_ENABLED=0 go build -trimpath -tags nomsgpack -ldflags="-s -w" -gcflags="github.com/...=-l" -o /out/ . ./deploy/logto
# A new volume takes over the owner of the folder that it is mounted on.
RUN install -d -m 700 /out/volumes/credentials /out/volumes/management

# Prepares a new Logto for docker-compose.yml.
FROM gcr.io/distroless/static-debian12:nonroot AS setup
COPY --from=build --chown=65532:65532 /out/volumes /volumes
COPY --from=build /out/logto /setup
ENTRYPOINT ["/setup"]

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build --chown=65532:65532 /out/volumes /volumes
COPY --from=build /out/logto-gin-starter /app
COPY config.yaml /
EXPOSE 3000
HEALTHCHECK --interval=5s --timeout=5s CMD ["/app", "-healthcheck"]
ENTRYPOINT ["/app"]
