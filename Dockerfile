FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -tags nomsgpack -ldflags="-s -w" -o /app .

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /app /app
COPY config.yaml /
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/app", "-healthcheck"]
ENTRYPOINT ["/app"]
